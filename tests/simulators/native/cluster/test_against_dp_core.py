"""Differential: LockStep's rounds are those of vLLM's own data-parallel engine cores, dummy batches and ends of waves included, on random
cases, with a synchronous and an asynchronous scheduler.

The e2e test drives the real busy loops in the engine's environment. The other one compares with digests of what they did (vLLM 0.32.0).
New digests: `python -m tests.simulators.native.cluster.test_against_dp_core`.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.project.folder import ROOT
from simulators.native.cluster.lockstep import LockStep, Longest
from simulators.native.engine import run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.sequence import Batch
from tests.environments import python_of
from tests.simulators.native.cases import Case, for_vllm, random_case

PYTHON = ROOT / ".envs" / "vllm_cpu" / "bin" / "python"
DRIVER = Path(__file__).with_name("drive_dp_core.py")
DIGESTS = Path(__file__).with_name("vllm_0.32.0_rounds.json")
SEEDS, DRIVEN = range(60), range(0, 60, 6)
Rounds = list[list[Any]]  # [of each rank [request, tokens] pairs, when the round ended in s] of each round


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataParallelCase:
    """One replay on several ranks."""

    case: Case  # its requests and the limits of each rank
    ranks: int  # data_parallel_size
    interval: int  # dp_sync_interval, rounds


class Seen(Longest):
    """The step times of rounds, which keeps what each computed, and how long it took."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.step_time)
        self.computed: Rounds = []

    def seconds(self, batch: Batch) -> float:
        took = super().seconds(batch)
        parts = getattr(batch, "parts")  # noqa: B009  # a Round's
        self.computed.append([[[[s.index, n] for s, n in zip(p.sequences, p.tokens, strict=True)] for p in parts], took])
        return took


def made(seed: int) -> DataParallelCase:
    """The random case of this seed on two to four ranks; half of the cases asynchronous."""
    case = random_case(seed)
    rng = np.random.default_rng([seed, 611])
    limits = dataclasses.replace(case.limits, policy="fcfs", in_flight=1 + seed // 2 % 2, reserve_full_prompt=True)
    ranks, interval = int(rng.integers(2, 5)), int(rng.choice([4, 8, 32]))
    return DataParallelCase(case=dataclasses.replace(case, limits=limits), ranks=ranks, interval=interval)


def ours(asked: DataParallelCase) -> tuple[Rounds, dict[int, int]]:
    """What each round computed and how long it took, and the rank of each request."""
    limits = asked.case.limits
    scheduler, seen = LockStep(limits, data_parallel_size=asked.ranks, dp_sync_interval=asked.interval), Seen(asked.case)
    sequences = list(make_sequences(asked.case.trace, block_size=limits.block_size))
    for _ in run(sequences, scheduler, seen, in_flight=limits.in_flight):
        pass
    return seen.computed, scheduler.rank_of


def engines(cases: list[DataParallelCase], python: Path) -> list[Rounds]:
    """What vLLM's engine cores do with the cases, requests on the ranks that ours have them on."""
    question = []
    for asked in cases:
        limits, rank_of = for_vllm(asked.case), ours(asked)[1]
        limits["ranks"], limits["limits"]["dp_sync_interval"] = asked.ranks, asked.interval
        for place, row in enumerate(limits["requests"]):
            row["rank"] = rank_of[place]
        question.append(limits)
    done = subprocess.run([python, DRIVER], input=json.dumps(question), capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[Rounds] = json.loads(done.stdout)
    return answers


def digest(rounds: Rounds) -> str:
    return hashlib.sha256(json.dumps([parts for parts, _ in rounds]).encode()).hexdigest()[:16]


@pytest.mark.e2e
def test_every_round_is_vllms() -> None:
    asked = [made(seed) for seed in DRIVEN]
    different, dummies = {}, 0
    for seed, case, theirs in zip(DRIVEN, asked, engines(asked, python_of("vllm_cpu")), strict=True):
        mine = ours(case)[0]
        same = [parts for parts, _ in mine] == [parts for parts, _ in theirs]
        # rounds follow one another without a gap in a wave, so its length is the sum of theirs
        took = np.array([seconds for _, seconds in mine])
        ends = np.array([end for _, end in theirs])
        if not same or (np.diff(ends) < took[1:] - 1e-9).any():
            different[seed] = (len(mine), len(theirs))
        dummies += sum(not part for parts, _ in theirs for part in parts)
    assert dummies > 500  # the cases exercise it
    assert not different


def test_every_round_is_what_vllm_once_did() -> None:
    assert {str(seed): digest(ours(made(seed))[0]) for seed in SEEDS} == json.loads(DIGESTS.read_text())


if __name__ == "__main__":
    table = {str(seed): digest(rounds) for seed, rounds in zip(SEEDS, engines([made(seed) for seed in SEEDS], PYTHON), strict=True)}
    DIGESTS.write_text(json.dumps(table, indent=0) + "\n")
    sys.stdout.write(f"{len(table)} cases\n")
