"""Differential: the sglang policy takes the same decisions as SGLang's own Scheduler, step by step, on random cases, plain ones and with
speculation.

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
from simulators.native.scheduling.speculation import Speculation
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.environments import python_of
from tests.simulators.native.cases import Case, Linear
from tests.simulators.native.scheduling.sglang_cases import for_sglang, our_steps, sglang_case, speculative_sglang_case
from tests.simulators.native.scheduling.test_against_vllm import Cases, digest
from workloads.trace import Request, Trace

PYTHON = ROOT / ".envs" / "sglang_cpu" / "bin" / "python"
DRIVER = Path(__file__).with_name("drive_sglang.py")
PLAIN = Cases(
    make=sglang_case,
    digests=Path(__file__).with_name("sglang_0.5.23_steps.json"),
    seeds=range(200),
    driven=range(0, 200, 4),
    least={"steps": 8_000, "preempted": 4, "cached": 3_000},
)
SPECULATIVE = Cases(
    make=speculative_sglang_case,
    digests=Path(__file__).with_name("sglang_0.5.23_speculative_steps.json"),
    seeds=range(40),
    driven=range(0, 40, 3),
    least={"steps": 1_000, "preempted": 5, "cached": 1_000},
)
KINDS = pytest.mark.parametrize("kind", [PLAIN, SPECULATIVE], ids=["plain", "speculative"])


def sglang_steps(cases: list[Case], python: Path) -> list[list[dict[str, Any]]]:
    """What SGLang's scheduler does with the cases."""
    question = json.dumps([for_sglang(case) for case in cases])
    done = subprocess.run([python, DRIVER], input=question, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return answers


@pytest.mark.e2e
@KINDS
def test_every_step_is_sglangs(kind: Cases) -> None:
    cases = [kind.make(seed) for seed in kind.driven]
    different = {}
    seen: Counter[str] = Counter()
    for seed, case, theirs in zip(kind.driven, cases, sglang_steps(cases, python_of("sglang_cpu")), strict=True):
        ours = our_steps(case)
        if ours != theirs:
            where = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
            different[seed] = f"step {where}: ours {ours[where : where + 1]}, SGLang's {theirs[where : where + 1]}"
        seen["steps"] += len(theirs)
        seen["preempted"] += sum(len(step["preempted"]) for step in theirs)
        seen["cached"] += sum(n for step in theirs for _, n in step["admitted"])
    print(f"{len(cases)} cases, {dict(seen)}, {len(different)} different")
    assert all(seen[what] > least for what, least in kind.least.items())  # the cases exercise it
    assert not different


@KINDS
def test_every_step_is_what_sglang_once_answered(kind: Cases) -> None:
    digests = json.loads(kind.digests.read_text())
    assert {str(seed): digest(our_steps(kind.make(seed))) for seed in kind.seeds} == digests


def test_the_cases_cover_every_feature() -> None:
    limits = [sglang_case(seed).limits for seed in PLAIN.driven]
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


def test_drafts_that_are_accepted_come_together_and_cost_their_verification() -> None:
    """Two of two drafts: three tokens a step, which verifies five tokens of the tree; there are places for twice as many."""
    drafts = Speculation(num_speculative_tokens=2, acceptance_rate=1.0, speculative_eagle_topk=2, speculative_num_draft_tokens=5)
    limits = Limits(
        kv_blocks=120, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=300, speculation=drafts, prefix_caching=False
    )
    one = Trace(name="one", requests=(Request(request_id=0, arrival=0.0, input_tokens=10, output_tokens=8),))
    case = Case(trace=one, limits=limits, priorities=(0,), step_time=Linear(fixed=0.25))
    assert [dict(step["tokens"]) for step in our_steps(case)] == [{0: 10}, {0: 5}, {0: 5}, {0: 5}]
    [record] = serve(one, limits, Linear(fixed=0.25), frontend=Frontend(), policy="sglang").records
    assert record.token_times == (0.25, *[0.5] * 3, *[0.75] * 3, 1.0)
    assert drafts.reserved_tokens(1) == 2 * 5 and drafts.reserved_tokens(16) == 2 * 2 * 32
    served = [
        serve(Trace(name="x", requests=(r,)), adapted("sglang", limits), Linear(fixed=1), frontend=Frontend(), policy="sglang").records[0]
        for r in (Request(request_id=0, arrival=0.0, input_tokens=n, output_tokens=8) for n in (90, 105))
    ]
    assert served[0].error is None and "do not fit the KV cache" in (served[1].error or "")


def test_a_part_of_a_context_cannot_be_left_out() -> None:
    limits = Limits(kv_blocks=100, block_size=1, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=90, prefix_caching=False)
    with pytest.raises(ValueError, match="sglang keeps all of a context"):
        SglangScheduler(dataclasses.replace(limits, kept_tokens=16))


if __name__ == "__main__":
    for one in (PLAIN, SPECULATIVE):
        answers = sglang_steps([one.make(seed) for seed in one.seeds], Path(sys.argv[1]) if len(sys.argv) > 1 else PYTHON)
        table = {str(seed): digest(steps) for seed, steps in zip(one.seeds, answers, strict=True)}
        one.digests.write_text(json.dumps(table, indent=0) + "\n")
