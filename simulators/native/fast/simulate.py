"""Runs the compiled engine: makes its arrays, lets it go on until all sequences are served, empties its logs."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulators.errors import SimulatorError
from simulators.native.fast.allocate import Looped, new_engine
from simulators.native.fast.machine_code import advance
from simulators.native.fast.records import FULL, LIVELOCK, Array, EngineArrays
from simulators.native.frontend.station import Station, StationUse
from simulators.native.latency.step_law import SEQUENCES
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All sequences, served. Times in s."""

    sequences: Array  # SEQUENCE
    sent: Floats  # when each step's tokens were with the clients: of all steps by the first API server, then by the next
    runs: Array  # RUN, by sequence and time; start: a place in `sent`
    first_token: Floats  # of each sequence, when it was with the client
    last_token: Floats  # the same
    steps: int  # that computed or preempted something
    end: float  # of the last of them
    peak_kv_blocks: int  # held at once, at most
    station: StationUse | None  # None: no sequences


def simulate(
    sequences: Array,
    shared_keys: NDArray[np.int64],
    limits: Limits,
    step_time: StepTime,
    station: Station,
    *,
    looped: Looped | None = None,
) -> Finished:
    """Serve the sequences (`new_sequences`; see `new_engine` for their order, and for `looped`). Raises SimulatorError, see engine.run."""
    assert step_time.law is not None
    engine = new_engine(sequences, shared_keys, limits, step_time.law, station, looped=looped)
    logs = Logs()
    lead(engine, step_time, logs, until=np.inf)
    return finished(engine, logs)


@dataclass(frozen=True, slots=True)
class Logs:
    """What was taken out of an engine's logs so far."""

    ends: list[Floats] = field(default_factory=list)
    runs: list[Array] = field(default_factory=list)


def lead(engine: EngineArrays, step_time: StepTime, logs: Logs, *, until: float) -> None:
    """Let the engine go on until second `until` (what happens at that second is left for later). Raises SimulatorError, see engine.run."""
    go_on, stopped = advance(), FULL
    while stopped == FULL:
        stopped = go_on(engine, until)
        if stopped == FULL or until == np.inf:
            _take_logs(engine, step_time, logs)
    if stopped == LIVELOCK:
        now = engine.clock[0]["now"]
        raise SimulatorError(f"native: at {now:.3f} s requests go on preempting each other; give the KV cache more blocks")


def finished(engine: EngineArrays, logs: Logs) -> Finished:
    """Of an engine that was led on until all its sequences were served."""
    clock = engine.clock[0]
    sequences = engine.sequences[: clock["known"]]
    ends, found = np.concatenate(logs.ends), np.concatenate(logs.runs)
    found = found[np.argsort(found["sequence"], kind="stable")]
    first, last = _first_and_last(found, len(sequences))
    server = sequences["server"]
    first_token, last_token = ends[first, 1 + server], ends[last, 1 + server]
    found["start"] += len(ends) * server[found["sequence"]]
    return Finished(
        sequences=sequences,
        sent=ends[:, 1:].T.ravel(),
        runs=found,
        first_token=first_token,
        last_token=last_token,
        steps=int(clock["counted"]),
        end=float(clock["device_free"]),
        peak_kv_blocks=int(clock["peak"]),
        station=_use(engine, first_token - ends[first, 0], last_token - ends[last, 0]),
    )


def _take_logs(engine: EngineArrays, step_time: StepTime, logs: Logs) -> None:
    """Empty the engine's logs, so that it can go on."""
    clock = engine.clock[0]
    logs.ends.append(engine.ends[: clock["told"]].copy())
    logs.runs.append(engine.runs[: clock["runs"]].copy())
    works = engine.works[: clock["logged"]]
    step_time.note(works[works[:, SEQUENCES] > 0])
    clock["logged"] = clock["told"] = clock["runs"] = 0


def _first_and_last(runs: Array, sequences: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The steps of each sequence's first and last token. runs: by sequence and time, at least one of each."""
    numbers = np.arange(sequences)
    first = np.searchsorted(runs["sequence"], numbers)
    last = np.searchsorted(runs["sequence"], numbers, side="right") - 1
    return runs["start"][first], runs["start"][last] + runs["length"][last] - 1


def _use(engine: EngineArrays, first_held: Floats, last_held: Floats) -> StationUse | None:
    """See ApiServers.use."""
    if not len(first_held):
        return None
    order = engine.order[: len(first_held)]
    served = engine.sequences[order]  # a sum depends on the order of its parts
    return StationUse(
        before=float(np.mean(served["reached"] - served["arrival"])),
        first_token=float(np.mean(first_held[order])),
        last_token=float(np.mean(last_held[order])),
        busy=sum(engine.servers["busy"].tolist()),
        requests=len(first_held),
    )
