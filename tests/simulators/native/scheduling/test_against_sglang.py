"""Differential: the sglang policy takes the same decisions as SGLang's own Scheduler, step by step, on random cases.

The e2e test drives the real class in the engine's environment. The other one compares with digests of what it answered (SGLang 0.5.23), so
that a change of ours shows without that environment. New digests: `python -m tests.simulators.native.scheduling.test_against_sglang`.
"""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from results.project.folder import ROOT
from simulators.native.scheduling.policies import adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang import SglangScheduler
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.environments import python_of
from tests.simulators.native.cases import Case, Linear
from tests.simulators.native.scheduling.sglang_cases import for_sglang, our_steps, sglang_case
from tests.simulators.native.scheduling.test_against_vllm import digest
from workloads.trace import Request, Trace

PYTHON = ROOT / ".envs" / "sglang_cpu" / "bin" / "python"
DRIVER = Path(__file__).with_name("drive_sglang.py")
DIGESTS = Path(__file__).with_name("sglang_0.5.23_steps.json")
SEEDS = range(200)
DRIVEN = range(0, 200, 4)  # of them, those that the real scheduler replays in each test: the digests hold its answers to all


def sglang_steps(cases: list[Case], python: Path) -> list[list[dict[str, Any]]]:
    """What SGLang's scheduler does with the cases."""
    question = json.dumps([for_sglang(case) for case in cases])
    done = subprocess.run([python, DRIVER], input=question, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return answers


@pytest.mark.e2e
def test_every_step_is_sglangs() -> None:
    cases = [sglang_case(seed) for seed in DRIVEN]
    different = {}
    seen: Counter[str] = Counter()
    for seed, case, theirs in zip(DRIVEN, cases, sglang_steps(cases, python_of("sglang_cpu")), strict=True):
        ours = our_steps(case)
        if ours != theirs:
            where = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
            different[seed] = f"step {where}: ours {ours[where : where + 1]}, SGLang's {theirs[where : where + 1]}"
        seen["steps"] += len(theirs)
        seen["retracted"] += sum(len(step["preempted"]) for step in theirs)
        seen["cached"] += sum(n for step in theirs for _, n in step["admitted"])
    print(f"{len(cases)} cases, {dict(seen)}, {len(different)} different")
    assert seen["steps"] > 8_000 and seen["retracted"] >= 5 and seen["cached"] > 3_000  # the cases exercise it
    assert not different


def test_every_step_is_what_sglang_once_answered() -> None:
    digests = json.loads(DIGESTS.read_text())
    assert {str(seed): digest(our_steps(sglang_case(seed))) for seed in SEEDS} == digests


def test_the_cases_cover_every_feature() -> None:
    limits = [sglang_case(seed).limits for seed in DRIVEN]
    for which in (
        lambda x: x.chunked_prefill,
        lambda x: x.prefix_caching,
        lambda x: x.block_size == 1,
        lambda x: x.in_flight == 2,
        lambda x: x.sglang.mixed_chunk,
        lambda x: x.sglang.ignore_eos,
    ):
        assert 8 <= sum(map(which, limits)) <= len(limits) - 8


def test_a_prompt_that_others_began_is_computed_from_there_by_the_token() -> None:
    requests = tuple(Request(request_id=i, arrival=float(i), input_tokens=50 + i, output_tokens=2, blocks=(7,)) for i in range(3))
    limits = Limits(kv_blocks=1000, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=200)
    trace = Trace(name="shared", requests=requests, block_size=37)
    records = serve(trace, limits, Linear(fixed=0.01), frontend=Frontend(), policy="sglang").records
    assert [r.cached_tokens for r in records] == [0, 37, 37]


def test_decodes_wait_for_prompts_that_come_meanwhile() -> None:
    """Prefill first: the request that decodes gets no token in the steps of the other's chunks, and one in each step after."""
    requests = (
        Request(request_id=0, arrival=0.0, input_tokens=10, output_tokens=20),
        Request(request_id=1, arrival=0.05, input_tokens=200, output_tokens=2),
    )
    limits = Limits(kv_blocks=1000, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=300)
    case = Case(trace=Trace(name="two", requests=requests), limits=limits, priorities=(0, 0), step_time=Linear(fixed=0.02))
    tokens = [dict(step["tokens"]) for step in our_steps(case)]
    assert tokens[:9] == [{0: 10}, {0: 1}, {0: 1}, {1: 64}, {1: 64}, {1: 64}, {1: 8}, {0: 1, 1: 1}, {0: 1}]


def test_what_would_fill_the_pool_alone_is_refused() -> None:
    limits = adapted("sglang", Limits(kv_blocks=100, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=300))
    requests = tuple(Request(request_id=i, arrival=0.0, input_tokens=n, output_tokens=8) for i, n in enumerate((80, 95)))
    good, large = serve(Trace(name="x", requests=requests), limits, Linear(fixed=0.01), frontend=Frontend(), policy="sglang").records
    assert good.error is None and large.error == "refused: 102 tokens do not fit the KV cache of 100 tokens"


def test_a_part_of_a_context_cannot_be_left_out() -> None:
    limits = Limits(kv_blocks=100, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=90, prefix_caching=False)
    with pytest.raises(ValueError, match="sglang keeps all of a context"):
        SglangScheduler(dataclasses.replace(limits, kept_tokens=16))


if __name__ == "__main__":
    answers = sglang_steps([sglang_case(seed) for seed in SEEDS], Path(sys.argv[1]) if len(sys.argv) > 1 else PYTHON)
    table = {str(seed): digest(steps) for seed, steps in zip(SEEDS, answers, strict=True)}
    DIGESTS.write_text(json.dumps(table, indent=0) + "\n")
