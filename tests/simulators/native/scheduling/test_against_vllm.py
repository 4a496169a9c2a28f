"""Differential: vllm_v1 takes the same decisions as vLLM's own Scheduler, step by step, on random cases: plain ones, with speculation, in
a pipeline, and with several kinds of layers.

The e2e test drives the real class in the engine's environment. The other one compares with digests of what it answered (vLLM 0.32.0), so
that a change of ours shows without that environment. New digests: `python -m tests.simulators.native.scheduling.test_against_vllm`.
"""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from results.project.folder import ROOT
from tests.environments import python_of
from tests.simulators.native.cases import (
    Case,
    chunked_case,
    for_vllm,
    grouped_case,
    our_steps,
    pipelined_case,
    random_case,
    speculative_case,
)

PYTHON = ROOT / ".envs" / "vllm_cpu" / "bin" / "python"
DRIVER = Path(__file__).with_name("drive_vllm.py")


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Random cases of one kind, one a seed."""

    make: Callable[[int], Case]
    digests: Path  # of vLLM's answers to all of `seeds`
    seeds: range
    driven: range  # of them, those that the real scheduler replays in each test
    least: dict[str, int]  # of what must happen in these


PLAIN = Cases(
    make=random_case,
    digests=Path(__file__).with_name("vllm_0.32.0_steps.json"),
    seeds=range(400),
    driven=range(0, 400, 3),
    least={"steps": 15_000, "preemptions": 150, "cached": 15_000},
)
SPECULATIVE = Cases(
    make=speculative_case,
    digests=Path(__file__).with_name("vllm_0.32.0_speculative_steps.json"),
    seeds=range(300),
    driven=range(0, 300, 5),
    least={"steps": 6000, "preemptions": 80, "cached": 5000},
)
PIPELINED = Cases(
    make=pipelined_case,
    digests=Path(__file__).with_name("vllm_0.32.0_pipelined_steps.json"),
    seeds=range(60),
    driven=range(0, 60, 3),
    least={"steps": 5000, "preemptions": 15, "cached": 3000},
)
GROUPED = Cases(
    make=grouped_case,
    digests=Path(__file__).with_name("vllm_0.32.0_grouped_steps.json"),
    seeds=range(36),
    driven=range(0, 36, 3),
    least={"steps": 3000, "preemptions": 8, "cached": 1500},
)
CHUNKED = Cases(
    make=chunked_case,
    digests=Path(__file__).with_name("vllm_0.32.0_chunked_steps.json"),
    seeds=range(60),
    driven=range(0, 60, 3),
    least={"steps": 2000, "preemptions": 8, "cached": 1000},
)
ALL = {"plain": PLAIN, "speculative": SPECULATIVE, "pipelined": PIPELINED, "grouped": GROUPED, "chunked": CHUNKED}
KINDS = pytest.mark.parametrize("cases", ALL.values(), ids=ALL)


def vllm_steps(cases: list[Case], python: Path) -> list[list[dict[str, Any]]]:
    """What vLLM's scheduler does with the cases."""
    question = json.dumps([for_vllm(case) for case in cases])
    done = subprocess.run([python, DRIVER], input=question, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return answers


def digest(steps: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:16]


def first_difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            return f"step {number}: ours {a}, vLLM's {b}"
    return f"{len(ours)} steps, vLLM's {len(theirs)}"


@pytest.mark.e2e
@KINDS
def test_every_step_is_vllms(cases: Cases) -> None:
    asked = [cases.make(seed) for seed in cases.driven]
    different = {}
    seen: Counter[str] = Counter()
    for seed, case, theirs in zip(cases.driven, asked, vllm_steps(asked, python_of("vllm_cpu")), strict=True):
        ours = our_steps(case)
        if ours != theirs:
            different[seed] = first_difference(ours, theirs)
        seen["steps"] += len(theirs)
        seen["preemptions"] += sum(len(step["preempted"]) for step in theirs)
        seen["cached"] += sum(n for step in theirs for _, n in step["admitted"])
    print(f"{len(asked)} cases, {dict(seen)}, {len(different)} different")
    assert all(seen[what] > least for what, least in cases.least.items())  # the cases exercise it
    assert not different


@KINDS
def test_every_step_is_what_vllm_once_answered(cases: Cases) -> None:
    digests = json.loads(cases.digests.read_text())
    assert {str(seed): digest(our_steps(cases.make(seed))) for seed in cases.seeds} == digests


def test_the_cases_cover_every_feature() -> None:
    limits = [random_case(seed).limits for seed in PLAIN.driven]
    for which in (
        lambda x: x.chunked_prefill,
        lambda x: x.prefix_caching,
        lambda x: x.long_prefill_token_threshold > 0,
        lambda x: x.policy == "priority",
        lambda x: x.watermark > 0,
        lambda x: x.reserve_full_prompt,
        lambda x: x.in_flight == 2,
        lambda x: x.in_flight == 3,
    ):
        assert 15 <= sum(map(which, limits)) <= len(limits) - 15


if __name__ == "__main__":
    for kind in ALL.values():
        answers = vllm_steps([kind.make(seed) for seed in kind.seeds], Path(sys.argv[1]) if len(sys.argv) > 1 else PYTHON)
        table = {str(seed): digest(steps) for seed, steps in zip(kind.seeds, answers, strict=True)}
        kind.digests.write_text(json.dumps(table, indent=0) + "\n")
