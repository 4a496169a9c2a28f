"""Runs the compiled engine: makes its arrays, lets it go on until all sequences are served, empties its logs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.errors import SimulatorError
from simulators.native.fast.allocate import new_engine
from simulators.native.fast.machine_code import advance
from simulators.native.fast.records import FULL, LIVELOCK, Array, EngineArrays
from simulators.native.latency.step_law import SEQUENCES
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All sequences, served. steps: that computed or preempted something; end: of the last of them, s.

    ends: s; when each step ended, also those that did nothing. runs: RUN, by sequence and time.
    """

    sequences: Array
    ends: NDArray[np.float64]
    runs: Array
    steps: int
    end: float
    peak_kv_blocks: int


def simulate(sequences: Array, shared_keys: NDArray[np.int64], limits: Limits, step_time: StepTime) -> Finished:
    """Serve the sequences (`new_sequences`, in the order in which they reach the scheduler). Raises SimulatorError, see engine.run."""
    assert step_time.law is not None
    engine = new_engine(sequences, shared_keys, limits, step_time.law)
    clock = engine.clock[0]
    ends: list[NDArray[np.float64]] = []
    runs: list[Array] = []
    go_on, stopped = advance(), FULL
    while stopped == FULL:
        stopped = go_on(engine, np.inf)
        _take_logs(engine, step_time, ends, runs)
    if stopped == LIVELOCK:
        raise SimulatorError(f"native: at {clock['now']:.3f} s requests go on preempting each other; give the KV cache more blocks")
    all_runs = np.concatenate(runs)
    return Finished(
        sequences=sequences,
        ends=np.concatenate(ends),
        runs=all_runs[np.argsort(all_runs["sequence"], kind="stable")],
        steps=int(clock["counted"]),
        end=float(clock["device_free"]),
        peak_kv_blocks=int(clock["peak"]),
    )


def _take_logs(engine: EngineArrays, step_time: StepTime, ends: list[NDArray[np.float64]], runs: list[Array]) -> None:
    """Empty the engine's logs, so that it can go on."""
    clock = engine.clock[0]
    ends.append(engine.ends[: clock["logged"]].copy())
    runs.append(engine.runs[: clock["runs"]].copy())
    works = engine.works[: clock["logged"]]
    step_time.note(works[works[:, SEQUENCES] > 0])
    clock["logged"] = clock["runs"] = 0
