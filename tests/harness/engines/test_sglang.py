"""SGLang: its command line from the settings, and (e2e) the real CPU server: limits, streams, cache, steps, errors inside HTTP 200."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.engine import Endpoint, EngineError
from harness.engines.hf_model import HfModel
from harness.engines.server import fetch
from harness.engines.sglang import Sglang
from harness.monitor.telemetry import Telemetry
from harness.replay.client import Client, Replay
from results.project.folder import CONF
from tests.choices import settings_of
from tests.patience import wait_until
from tests.stand_ins import hf_folder
from workloads.trace import Request, Trace

POOL, CHUNK, SLOTS = 1600, 256, 4
SERVED_NOW = {  # settings of what is served today
    "pp_size": 2,
    "dp_size": 2,
    "attn_dp_size": 4,
    "ep_size": 8,
    "quantization": "fp8",
    "kv_cache_dtype": "fp8_e4m3",
    "speculative_algorithm": "EAGLE",
    "speculative_draft_model_path": "/models/draft",
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 4,
}


def settings(name: str, **changes: Any) -> Sglang:
    engine = instantiate(OmegaConf.merge(OmegaConf.load(CONF / "engine" / f"{name}.yaml"), changes))
    assert isinstance(engine, Sglang)
    return engine


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights and a tokenizer of its own."""
    models = tmp_path_factory.mktemp("models")
    return HfModel(path=str(hf_folder.write_folder(models / "counting"))).folder(models)


def test_settings_become_sglang_s_own_options() -> None:
    engine = settings("sglang_cpu", max_running_requests=7, page_size=16, disable_radix_cache=True, extra_args=["--stream-interval", "2"])
    argv = engine.argv(Path("/env/bin/python"), Path("/models/tiny-1"), 8123)
    assert argv[:3] == ["/env/bin/python", "-m", "sglang.launch_server"]
    given = dict(zip(argv, [*argv[1:], ""], strict=True))
    assert given["--max-running-requests"] == "7" and given["--port"] == "8123" and given["--model-path"] == "/models/tiny-1"
    assert given["--max-total-tokens"] == "65536" and given["--page-size"] == "16" and given["--decode-log-interval"] == "1"
    assert {"--disable-radix-cache", "--enable-metrics", "--enable-cache-report", "--sleep-on-idle"} <= set(argv)
    assert "--enable-mixed-chunk" not in argv and "--mem-fraction-static" not in argv
    assert argv[-2:] == ["--stream-interval", "2"]
    assert not [word for word in argv if word.startswith(("--pp", "--dp", "--attn-dp", "--ep", "--quant", "--kv", "--spec"))]


def test_parts_formats_and_speculation_become_sglang_s_own_options() -> None:
    """Its own parser takes each of these words: see the test of a bad option."""
    argv = settings("sglang", python="/venv/bin/python", **SERVED_NOW).argv(Path("/venv/bin/python"), Path("/models/moe"), 8123)
    given = dict(zip(argv, [*argv[1:], ""], strict=True))
    assert {name: given[f"--{name.replace('_', '-')}"] for name in SERVED_NOW} == {name: str(value) for name, value in SERVED_NOW.items()}


def test_the_settings_for_gpus_are_whole() -> None:
    argv = settings("sglang", python="/venv/bin/python").argv(Path("/venv/bin/python"), Path("/models/tiny-1"), 8123)
    assert argv[argv.index("--device") + 1] == "cuda" and "--disable-overlap-schedule" not in argv


def test_its_environment_is_pinned_and_names_no_place() -> None:
    lines = (CONF / "envs" / f"{settings('sglang_cpu').environment}.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    assert {"sglang==0.5.23", "torch==2.13.0+cpu", "torchvision==0.16.0"} <= set(lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_running_requests": 0}, "max_running_requests must be positive, got 0"),
        ({"ep_size": 0}, "ep_size must be positive, got 0"),
        ({"chunked_prefill_size": 0}, "chunked_prefill_size must be positive, or -1 for no chunks, got 0"),
        ({"environment": None}, "give either environment .* or python"),
        ({"python": "/usr/bin/python3"}, "give either environment .* or python"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        settings("sglang_cpu", **changes)


def test_an_interpreter_that_is_not_there(model_dir: Path, tmp_path: Path) -> None:
    engine = settings("sglang_cpu", environment=None, python="/no/such/python")
    with pytest.raises(EngineError, match=r"engine sglang: no interpreter /no/such/python"), engine.serve(model_dir, tmp_path / "log"):
        pass


@dataclass(frozen=True)
class Served:
    """A real server and what the client needs for it."""

    engine: Sglang
    endpoint: Endpoint
    client: Client
    log: Path

    def send(self, prompts: Sequence[Sequence[int]], output: int) -> Replay:
        """All of them at once."""
        requests = [Request(request_id=i, arrival=0.0, input_tokens=len(p), output_tokens=output) for i, p in enumerate(prompts)]
        return self.client.replay(self.endpoint, Trace(name="test", requests=tuple(requests)), prompts)

    def steps(self, replay: Replay) -> pd.Series:
        """The sum of each kind of number over the replay's steps, once its log holds them all (the last line may come after its tokens)."""

        def sums() -> pd.Series:
            return self.engine.steps(self.log, replay.epoch).groupby("name")["value"].sum()

        wait_until(lambda: sums().get("step_decode_batch", 0) >= sum((r.output_tokens or 1) - 1 for r in replay.records))
        return sums()


@pytest.fixture(scope="module")
def served(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    engine = settings(
        "sglang_cpu", context_length=4096, max_total_tokens=POOL, chunked_prefill_size=CHUNK, max_running_requests=SLOTS, load_format="auto"
    )
    client = instantiate(settings_of("client", "default"))
    log = tmp_path_factory.mktemp("sglang") / "server.log"
    before = set(psutil.Process().children(recursive=True))
    with engine.serve(model_dir, log) as endpoint:
        started = set(psutil.Process().children(recursive=True)) - before
        assert any(is_scheduler(process) for process in started)
        yield Served(engine, endpoint, client, log)
    assert not [process for process in started if process.is_running()]


def is_scheduler(process: psutil.Process) -> bool:
    return "".join(process.cmdline()[:1]).startswith("sglang::scheduler")


def fresh(seed: int, count: int, length: int) -> list[list[int]]:
    """Prompts that nobody has sent before: random token ids."""
    return np.random.default_rng(seed).integers(100, hf_folder.ORDINARY, (count, length)).tolist()  # type: ignore[no-any-return]


@pytest.mark.e2e
def test_limits_read_back_are_the_ones_asked_for(served: Served) -> None:
    limits = served.endpoint.limits
    assert (limits.kv_tokens, limits.block_size, limits.max_num_seqs, limits.max_num_batched_tokens) == (POOL, 1, SLOTS, CHUNK)
    assert (limits.max_model_len, limits.chunked_prefill, limits.prefix_caching, limits.tensor_parallel) == (POOL - 6, True, True, 1)
    assert served.endpoint.unknown == ()
    assert (served.endpoint.system, served.endpoint.version) == ("sglang", "0.5.23")
    assert served.endpoint.details["server_info"]["model_impl"] == "transformers"
    assert f"max_total_num_tokens={POOL}" in served.log.read_text()


@pytest.mark.e2e
def test_streams_are_whole_and_the_steps_add_up(served: Served) -> None:
    """Six prompts of two chunks and more, on four slots: all tokens come, and the log's steps hold exactly those tokens."""
    served.engine.reset_cache(served.endpoint)
    prompts = fresh(1, 6, 300)
    with Telemetry(f"{served.endpoint.url}/metrics", 0.1, served.engine.sample) as telemetry:
        replay = served.send(prompts, 20)
    for record in replay.records:
        assert record.error is None
        assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (300, 20, 0)
        assert record.token_times is not None and len(record.token_times) == 20
    steps = served.steps(replay)
    assert steps["step_prefill_new_tokens"] == 6 * 300
    assert steps["step_prefill_cached_tokens"] == 0
    assert steps["step_decode_batch"] == 6 * 19  # the first token of each comes from its prefill
    each = served.engine.steps(served.log, replay.epoch)
    by_name = each.groupby("name")["value"].max()
    assert by_name["step_prefill_new_tokens"] == CHUNK and by_name["step_decode_batch"] == SLOTS
    assert each["time"].is_monotonic_increasing and each["time"].min() >= 0 and each["time"].max() <= time.monotonic() - replay.epoch
    seen = telemetry.frame(replay.epoch)
    assert {"num_running_reqs", "num_queue_reqs", "token_usage", "prompt_tokens_total"} <= set(seen["name"])
    assert seen.loc[seen["name"] == "num_running_reqs", "value"].max() > 0


@pytest.mark.e2e
def test_it_reads_the_weights_of_its_folder(served: Served, model_dir: Path) -> None:
    """They make it count upwards in token ids (hf_folder.py), and its own tokenizer spells that."""
    assert hf_folder.counts(served.endpoint, model_dir, start=1000)


@pytest.mark.e2e
def test_the_cache_is_cold_after_a_flush(served: Served) -> None:
    prompt = fresh(2, 1, 200)

    def cached() -> tuple[int | None, float]:
        replay = served.send(prompt, 2)
        (record,) = replay.records
        assert record.error is None
        return record.cached_tokens, served.steps(replay)["step_prefill_cached_tokens"]

    served.engine.reset_cache(served.endpoint)
    assert cached() == (0, 0)
    assert cached() == (199, 199)  # by the token, all but the last one
    served.engine.reset_cache(served.endpoint)
    assert cached() == (0, 0)


@pytest.mark.e2e
def test_what_does_not_fit_the_pool_is_a_failure_though_http_says_200(served: Served) -> None:
    """SGLang answers 200, an error object, a usage of 1 and 1, and [DONE]. One that only just fits is cut short without an error."""
    (long,) = served.send(fresh(3, 1, POOL + 100), 4).records
    assert long.error is not None and "exceeds the maximum allowed length" in long.error
    assert long.first_token is None and not long.token_times
    (short,) = served.send(fresh(4, 1, POOL - 20), 100).records
    assert short.error is not None and re.match(r"output_tokens: the trace asks for 100, the server reports \d+", short.error)
    limit = served.endpoint.limits.max_model_len
    assert limit is not None
    (longest,) = served.send(fresh(5, 1, limit - 4), 4).records
    assert longest.error is None


@pytest.mark.e2e
def test_the_scheduler_has_a_core_of_its_own(served: Served) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        assert served.endpoint.details["core_cpus"] is None
        return
    children = psutil.Process().children(recursive=True)
    (scheduler,) = [p for p in children if is_scheduler(p)]
    (detokenizer,) = [p for p in children if "".join(p.cmdline()[:1]).startswith("sglang::detokenizer")]
    assert list(served.endpoint.details["core_cpus"]) == scheduler.cpu_affinity()
    assert not set(scheduler.cpu_affinity()) & set(detokenizer.cpu_affinity())
    assert list(served.endpoint.core_pids) == [scheduler.pid]


@pytest.mark.e2e
def test_attached_to_it_the_same_is_read_back(served: Served, tmp_path: Path) -> None:
    attached = instantiate(OmegaConf.load(CONF / "engine" / "attached.yaml"), url=served.endpoint.url)
    with attached.serve(tmp_path, tmp_path / "log") as endpoint:
        assert (endpoint.system, endpoint.version, endpoint.limits) == ("sglang", "0.5.23", served.endpoint.limits)
        attached.reset_cache(endpoint)
        assert attached.sample(fetch(f"{endpoint.url}/metrics")[1])["num_running_reqs"] == 0


@pytest.mark.e2e
def test_a_bad_option_is_named_in_one_line(model_dir: Path, tmp_path: Path) -> None:
    """Its parser, which reads every word before it says so, takes all the others."""
    log, engine = tmp_path / "server.log", settings("sglang_cpu", extra_args=["--no-such-option"], **SERVED_NOW)
    with pytest.raises(EngineError, match=r"unrecognized arguments: --no-such-option(?! --)") as caught, engine.serve(model_dir, log):
        pass
    assert "\n" not in str(caught.value) and str(log) in str(caught.value)
