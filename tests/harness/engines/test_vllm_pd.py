"""vLLM with prefill and decode apart: what it makes of two instances' texts, and (e2e) the real thing on the CPU."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness.engine import Endpoint
from harness.engines.pd_proxy import marker
from harness.engines.server import fetch
from harness.engines.vllm_pd import VllmPd, hush, parts
from results.project.folder import CONF
from tests.patience import wait_until

SMALL = ("max_model_len=1024", "max_num_seqs=6", "max_num_batched_tokens=160", "kv_cache_gib=0.125")
BLOCK = 32  # tokens


roomy = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 4 and "PLUMBLINE_TEST_PD" not in os.environ,
    reason="two engines and their NIXL threads that never sleep take minutes on fewer than four cores; PLUMBLINE_TEST_PD=1 runs it anyway",
)


def settings(*changes: str) -> VllmPd:
    """As conf/engine/vllm_cpu_pd.yaml has it; so the file and the constructor must agree."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("bench", overrides=["engine=vllm_cpu_pd", *changes])
    engine = instantiate(config.engine)
    assert isinstance(engine, VllmPd)
    return engine


def test_a_text_of_both_is_taken_apart() -> None:
    text = f"{marker('prefill')}\nvllm:num_requests_running 2\n{marker('decode')}\nvllm:num_requests_running 5\n"
    assert parts(text) == {"prefill": "vllm:num_requests_running 2", "decode": "vllm:num_requests_running 5\n"}
    assert settings().sample(text) == {
        "num_requests_running": 7.0,
        "prefill_num_requests_running": 2.0,
        "decode_num_requests_running": 5.0,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("engine.kv_buffer_device=disk", "kv_buffer_device must be cpu or cuda, got 'disk'"),
        ("engine.decode.environment=vllm", "both instances must be of one environment"),
    ],
)
def test_settings_that_cannot_be(change: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        settings(change)


def test_a_thread_that_never_sleeps_is_told_from_those_that_do() -> None:
    code = "import threading, time; threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start(); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            assert wait_until(lambda: hush([process.pid]) == 1)  # once its thread has started, and the machine did not stand still
            assert wait_until(lambda: hush([process.pid]) == 1)  # the kernel accounts for one that waits only when it has run
            spinner = next(int(t.name) for t in Path(f"/proc/{process.pid}/task").iterdir() if t.name != str(process.pid))
            assert os.sched_getscheduler(spinner) == os.SCHED_IDLE
            assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
        finally:
            process.kill()


@pytest.fixture(scope="module")
def engine() -> VllmPd:
    return settings(*(f"engine.{instance}.{change}" for instance in ("prefill", "decode") for change in SMALL))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pd") / "server.log"


@pytest.fixture(scope="module")
def endpoint(engine: VllmPd, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    model = instantiate(OmegaConf.load(CONF / "model" / "tiny.yaml")).folder(tmp_path_factory.mktemp("models"))
    epoch = time.monotonic()
    with engine.serve(model, log) as endpoint:
        yield endpoint
    steps = engine.steps(log, epoch).groupby("name")["value"].sum()
    assert steps["prefill_step_prefill_new_tokens"] > 600 and "prefill_step_decode_batch" not in steps
    assert [path.name for path in log.parent.iterdir()] == [log.name]


def post(endpoint: Endpoint, body: dict[str, Any]) -> list[str]:
    """The data of each event of a streamed completion, without randomness."""
    fixed = {
        "model": endpoint.served_model,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    data = json.dumps(fixed | body).encode()
    request = urllib.request.Request(f"{endpoint.url}/v1/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [line.decode().removeprefix("data: ").strip() for line in answer if line.startswith(b"data: ")]


def ask(endpoint: Endpoint, prompt: list[int], tokens: int) -> tuple[str, int]:
    """(text, cached tokens)."""
    *lines, done = post(endpoint, {"prompt": prompt, "max_tokens": tokens})
    assert done == "[DONE]"
    events = [json.loads(line) for line in lines]
    usage = events[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(prompt), tokens)
    return "".join(c["text"] for e in events for c in e["choices"]), int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


@roomy
@pytest.mark.e2e
@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 300])
def test_the_answer_is_that_of_one_instance_alone(endpoint: Endpoint, engine: VllmPd, length: int) -> None:
    prompt = [1000 + 7 * i % 900 + length for i in range(length)]
    before = engine.sample(fetch(f"{endpoint.url}/metrics")[1])
    text, _ = ask(endpoint, prompt, 12)
    after = engine.sample(fetch(f"{endpoint.url}/metrics")[1])
    assert after["prefill_prompt_tokens_total"] - before["prefill_prompt_tokens_total"] == length
    assert after["prefill_generation_tokens_total"] - before["prefill_generation_tokens_total"] == 1
    assert after["decode_generation_tokens_total"] - before["decode_generation_tokens_total"] == 12
    sent = after["decode_nixl_bytes_transferred_sum"] - before["decode_nixl_bytes_transferred_sum"]
    assert sent > 0 or length < 2
    engine.reset_cache(endpoint)
    assert endpoint.instance_url is not None
    assert ask(dataclasses.replace(endpoint, url=endpoint.instance_url), prompt, 12)[0] == text


@roomy
@pytest.mark.e2e
def test_cached_tokens_are_those_of_the_prefill(endpoint: Endpoint, engine: VllmPd) -> None:
    prompt = list(range(2000, 2200))
    engine.reset_cache(endpoint)
    assert [ask(endpoint, prompt, 2)[1] for _ in range(2)] == [0, 192]  # six whole blocks, though all came over the wire
    engine.reset_cache(endpoint)
    assert ask(endpoint, prompt, 2)[1] == 0


@roomy
@pytest.mark.e2e
def test_limits_are_those_of_each_and_a_bad_request_is_passed_on(endpoint: Endpoint) -> None:
    limits = endpoint.limits
    assert (limits.max_model_len, limits.max_num_seqs, limits.max_num_batched_tokens, limits.prefix_caching) == (1024, 6, 160, True)
    assert (endpoint.system, endpoint.unknown, len(endpoint.core_pids)) == ("vllm_pd", (), 2)
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        post(endpoint, {"prompt": list(range(100, 1300)), "max_tokens": 2})
    assert "maximum context length" in refused.value.read().decode()
