"""What a simulation costs: every simulator on the same 2,000 requests and profile, one after the other, each in a process of its own.

`make perf`, or this file alone, prints one table: seconds and peak memory of the whole process (of a foreign program: of its own process),
the seconds that a bench waits for the adapter's call, and those of the simulation inside it, where it tells them.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import EngineError
from harness.environment import ensure
from results.project.folder import ROOT
from simulators.foreign.program import clean_environment, run_program

REQUESTS = 2000
SIMULATORS = ("native", "aisimulate", "splitwise_sim", "distserve_sim", "vidur")
GIT = {"splitwise_sim": "PLUMBLINE_SPLITWISE_GIT", "distserve_sim": "PLUMBLINE_DISTSERVE_GIT"}
LIMIT = 900.0  # s
MB = 1e6


@pytest.fixture(scope="module")
def rows() -> Iterator[list[str]]:
    found: list[str] = []
    yield found
    print(f"\n{REQUESTS} requests  process s   MB   call s  simulation s  mean TTFT ms\n" + "\n".join(found))


@pytest.mark.parametrize("name", SIMULATORS)
def test_seconds_and_memory(name: str, benchmark: Any, rows: list[str], tmp_path: Path) -> None:
    if name in GIT and not os.environ.get(GIT[name]):
        pytest.skip(f"set {GIT[name]} to a clone")
    if name != "native":
        try:
            ensure(name)
        except EngineError as error:
            pytest.skip(str(error))
    argv = [sys.executable, "-m", "tests.perf.simulate_once", name, str(REQUESTS), str(tmp_path / "scratch")]
    env = clean_environment({"PYTHONPATH": str(ROOT), **{v: os.environ[v] for v in GIT.values() if v in os.environ}})
    usage = benchmark.pedantic(
        run_program,
        args=(name, argv),
        kwargs={"cwd": ROOT, "log": tmp_path / "log", "limit": LIMIT, "env": env},
        rounds=1,
        warmup_rounds=int(name == "native"),  # the very first run on a machine compiles its engine, for about 20 s
    )
    said = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert said["answered"] == REQUESTS
    seconds, memory = said["process_s"] or usage.wall_s, said["process_memory"] or usage.peak_memory
    benchmark.extra_info.update(process_s=seconds, peak_memory=memory, call_s=said["call_s"], simulate_s=said["simulate_s"])
    inside = "-" if said["simulate_s"] is None else f"{said['simulate_s']:.3f}"
    rows.append(f"{name:13} {seconds:10.2f} {memory / MB:5.0f} {said['call_s']:8.3f} {inside:>13} {1e3 * said['mean_ttft']:13.1f}")
