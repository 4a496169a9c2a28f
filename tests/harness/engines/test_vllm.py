"""vLLM: its command line from the settings, and (e2e) the real CPU server: started, read back, asked, reset, ended."""

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.engine import Endpoint, EngineError
from harness.engines.server import fetch
from harness.engines.vllm import Vllm
from harness.monitor.telemetry import Telemetry
from harness.probing.rehearsal import rehearse
from harness.replay.protocols.chat import Chat
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.responses import Responses
from harness.replay.protocols.wire_protocol import WireProtocol
from results.project.folder import CONF
from tests.harness.replay.test_client import CLIENT
from tests.patience import measured_again, wait_until
from workloads.prompts import token_ids
from workloads.trace import Request, Trace

SERVED_NOW = {  # settings of what is served today
    "pipeline_parallel_size": 2,
    "data_parallel_size": 4,
    "enable_expert_parallel": True,
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
}


def settings(name: str, **changes: Any) -> Vllm:
    engine = instantiate(OmegaConf.merge(OmegaConf.load(CONF / "engine" / f"{name}.yaml"), changes))
    assert isinstance(engine, Vllm)
    return engine


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts; test_end_to_end.py has the dense model, test_measure_vllm.py one with weights."""
    folder = instantiate(OmegaConf.load(CONF / "model" / "tiny_moe.yaml")).folder(tmp_path_factory.mktemp("models"))
    assert isinstance(folder, Path)
    return folder


def test_settings_become_vllm_s_own_options() -> None:
    engine = settings(
        "vllm_cpu", max_num_seqs=7, enable_prefix_caching=False, block_size=None, kv_cache_gib=0.5, extra_args=["--stream-interval", "2"]
    )
    argv = engine.argv(Path("/env/bin/python"), Path("/models/tiny-1"), 8123)
    assert argv[:3] == ["/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    given = dict(zip(argv, [*argv[1:], ""], strict=True))
    assert given["--max-num-seqs"] == "7" and given["--port"] == "8123" and given["--model"] == "/models/tiny-1"
    assert given["--kv-cache-memory-bytes"] == str(2**29)
    assert "--no-enable-prefix-caching" in argv and "--enable-chunked-prefill" in argv and "--block-size" not in argv
    assert argv[-2:] == ["--stream-interval", "2"]
    assert not {f"--{name.replace('_', '-')}" for name in SERVED_NOW} & set(argv)


def test_parts_formats_and_speculation_become_vllm_s_own_options() -> None:
    """Its own parser takes each of these words: test_end_to_end.py, where it refuses the one that is none."""
    argv = settings("vllm", **SERVED_NOW).argv(Path("/env/bin/python"), Path("/models/moe"), 8123)
    given = dict(zip(argv, [*argv[1:], ""], strict=True))
    assert (given["--pipeline-parallel-size"], given["--data-parallel-size"]) == ("2", "4") and "--enable-expert-parallel" in argv
    assert (given["--quantization"], given["--kv-cache-dtype"]) == ("fp8", "fp8")
    assert json.loads(given["--speculative-config"]) == SERVED_NOW["speculative_config"]


@pytest.mark.parametrize("name", ["vllm", "vllm_cpu"])
def test_settings_in_conf_are_whole(name: str) -> None:
    assert (CONF / "envs" / f"{settings(name).environment}.txt").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be positive, got 0"),
        ({"kv_cache_gib": -1.0}, "kv_cache_gib must be positive"),
        ({"data_parallel_size": 0}, "data_parallel_size must be positive, got 0"),
        ({"environment": None}, "give either environment .* or python"),
        ({"python": "/usr/bin/python3"}, "give either environment .* or python"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        settings("vllm_cpu", **changes)


def test_an_interpreter_that_is_not_there(model_dir: Path, tmp_path: Path) -> None:
    engine = settings("vllm_cpu", environment=None, python="/no/such/python")
    with pytest.raises(EngineError, match=r"no interpreter /no/such/python; set engine\.python"), engine.serve(model_dir, tmp_path / "log"):
        pass


def descendants() -> set[psutil.Process]:
    """Every process that descends from this one."""
    return set(psutil.Process().children(recursive=True))


def is_core(process: psutil.Process) -> bool:
    return "VLLM::EngineCore" in "".join(process.cmdline()[:1])


@pytest.fixture(scope="module")
def engine() -> Vllm:
    return settings("vllm_cpu", max_model_len=1024, max_num_seqs=6, max_num_batched_tokens=160, kv_cache_gib=0.125, log_steps=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vllm") / "server.log"


@pytest.fixture(scope="module")
def endpoint(engine: Vllm, model_dir: Path, log: Path) -> Iterator[Endpoint]:
    with engine.serve(model_dir, log) as endpoint:
        started = descendants()
        assert any(is_core(process) for process in started)
        yield endpoint
    assert not [process for process in started if process.is_running()]


async def stream(endpoint: Endpoint, prompt: list[int], max_tokens: int) -> list[dict[str, Any]]:
    """The events of one streamed completion."""
    body = {
        "model": endpoint.served_model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with aiohttp.ClientSession() as session, session.post(f"{endpoint.url}/v1/completions", json=body) as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    assert lines[-2] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


@pytest.mark.e2e
def test_limits_read_back_are_the_ones_asked_for(endpoint: Endpoint, engine: Vllm) -> None:
    limits = endpoint.limits
    assert (limits.max_model_len, limits.max_num_seqs, limits.max_num_batched_tokens) == (1024, 6, 160)
    assert (limits.block_size, limits.chunked_prefill, limits.prefix_caching, limits.tensor_parallel) == (engine.block_size, True, True, 1)
    config = endpoint.details["vllm_config"]["model_config"]
    assert config["enforce_eager"] is True and endpoint.served_model.startswith("tiny_moe")
    bytes_per_token = 2 * 2 * 6 * 4 * 64  # key and value, bfloat16, layers, KV heads, head_dim of conf/model/tiny_moe.yaml
    assert limits.kv_tokens == 2**27 // (bytes_per_token * 32) * 32
    assert endpoint.unknown == ()
    assert endpoint.system == "vllm" and endpoint.version is not None and endpoint.version.startswith("0.")


@pytest.mark.e2e
def test_every_token_shows_as_text(endpoint: Endpoint) -> None:
    events = asyncio.run(stream(endpoint, list(range(100, 400)), 20))  # a prompt of two chunks
    texts = [choice["text"] for event in events for choice in event["choices"]]
    assert all(texts) and len("".join(texts).split()) == 20  # a server that lags may put two tokens into one event
    usage = events[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (300, 20)


@pytest.mark.e2e
def test_the_prefix_cache_is_cold_after_a_reset(endpoint: Endpoint, engine: Vllm) -> None:
    def cached() -> int:
        return int(asyncio.run(stream(endpoint, list(range(1000, 1200)), 2))[-1]["usage"]["prompt_tokens_details"]["cached_tokens"])

    engine.reset_cache(endpoint)
    assert [cached(), cached()] == [0, 192]  # six whole blocks of 32
    engine.reset_cache(endpoint)
    assert cached() == 0


@pytest.mark.e2e
@pytest.mark.parametrize(("protocol", "overhead"), [(Chat(), 7), (Responses(), 7), (Completions(prompts="text"), 0)])
def test_prompts_of_text_have_the_lengths_and_share_the_blocks_that_a_trace_asks_for(
    endpoint: Endpoint, engine: Vllm, model_dir: Path, protocol: WireProtocol, overhead: int
) -> None:
    client = dataclasses.replace(CLIENT, protocol=protocol)
    ready = rehearse(client, endpoint, folder=model_dir, first_id=16)
    assert ready.text_prompts is not None and ready.text_prompts.overhead == overhead  # of the template in harness/engines/model.py
    asked: list[tuple[int, tuple[int, ...]]] = [(300, (1, 2)), (320, (1, 2)), (200, (3,)), (3, ())]
    requests = [
        Request(request_id=i, arrival=0.0, input_tokens=n, output_tokens=5, blocks=blocks, after=(i - 1,) if i else ())  # one by one
        for i, (n, blocks) in enumerate(asked)
    ]
    trace = Trace(name="text", requests=tuple(requests), block_size=128)
    prompts = token_ids(trace, vocab_size=len(ready.text_prompts.words), first_id=0, seed=7)
    engine.reset_cache(endpoint)
    result = client.replay(ready, trace, prompts)
    assert [record.error for record in result.records] == [None] * 4
    assert [record.input_tokens for record in result.records] == [300, 320, 200, max(3, overhead + 1)]
    assert [request.input_tokens for request in result.trace] == [record.input_tokens for record in result.records]
    shared = (256 + (3 if overhead else 0)) // 32 * 32  # the template's beginning moves the blocks
    assert [record.cached_tokens for record in result.records] == [0, shared, 0, 0]


@pytest.mark.e2e
@measured_again
def test_telemetry_sees_the_requests(endpoint: Endpoint, engine: Vllm) -> None:
    before = engine.sample(fetch(f"{endpoint.url}/metrics")[1])
    with Telemetry(f"{endpoint.url}/metrics", 0.1, engine.sample) as telemetry:
        asyncio.run(stream(endpoint, list(range(2000, 2050)), 150))
    frame = telemetry.frame(0.0)
    running = frame.loc[frame["name"] == "num_requests_running", "value"]
    assert running.max() == 1.0
    assert {"num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total", "prefix_cache_hits_total"} <= set(frame["name"])
    after = engine.sample(fetch(f"{endpoint.url}/metrics")[1])
    assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == 50
    assert after["generation_tokens_total"] - before["generation_tokens_total"] == 150


@pytest.mark.e2e
def test_the_log_s_steps_hold_every_token(endpoint: Endpoint, engine: Vllm, log: Path) -> None:
    engine.reset_cache(endpoint)
    epoch = time.monotonic()
    asyncio.run(stream(endpoint, list(range(3000, 3300)), 20))
    # the server's front end writes a step's line when it has passed on the tokens, so the last one may still be under way
    assert wait_until(lambda: (engine.steps(log, epoch)["name"] == "step_kv_usage").sum() >= 21)
    steps = engine.steps(log, epoch)
    total = steps.groupby("name")["value"].sum()
    assert total["step_prefill_new_tokens"] == 300  # in two chunks, the budget being 160
    assert total["step_decode_batch"] == 19  # the first token comes from the prefill
    assert (steps["name"] == "step_kv_usage").sum() == 21  # steps
    assert steps["time"].is_monotonic_increasing and steps["time"].between(0, time.monotonic() - epoch).all()


@pytest.mark.e2e
def test_the_engine_core_has_a_core_of_its_own(endpoint: Endpoint) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        assert endpoint.details["core_cpus"] is None
        return
    cores = [p for p in descendants() if is_core(p)]
    servers = [p for p in descendants() if "vllm.entrypoints.openai.api_server" in p.cmdline() and "-m" in p.cmdline()[:2]]
    assert len(cores) == len(servers) == 1
    assert list(endpoint.details["core_cpus"]) == cores[0].cpu_affinity()
    assert not set(cores[0].cpu_affinity()) & set(servers[0].cpu_affinity())
    assert list(endpoint.core_pids) == [cores[0].pid]
