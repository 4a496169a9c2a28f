"""GrowingEngine: a compiled engine that is told of its requests little by little, by somebody who looks at it before he sends the next."""

import numpy as np

from simulators.native.fast.allocate import new_engine
from simulators.native.fast.records import SEQUENCE, Array
from simulators.native.fast.simulate import Finished, Logs, finished, lead
from simulators.native.frontend.station import Station
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits

NEVER = np.iinfo(np.int64).max


class GrowingEngine:
    """Not for speculation, whose drafts are drawn beforehand, nor for prompts that share blocks."""

    def __init__(self, limits: Limits, step_time: StepTime, station: Station, *, room: int = 1024) -> None:
        """room: sequences that it has room for at first."""
        assert step_time.law is not None and not limits.speculation.num_speculative_tokens
        empty = np.zeros(max(room, limits.max_num_seqs), SEQUENCE)
        empty["end"] = limits.max_model_len  # of the longest request that may come
        self._engine = new_engine(empty, np.empty(0, np.int64), limits, step_time.law, station)
        self._engine.clock["known"], self._engine.loop["next"] = 0, NEVER  # nobody's end makes another due
        self._step_time, self._logs, self._most = step_time, Logs(), limits.max_model_len

    @property
    def in_flight(self) -> int:
        """Requests that it was told of and that are not complete."""
        clock, servers = self._engine.clock[0], self._engine.servers
        handed = int(np.sum((servers["given"] - np.arange(len(servers))) // len(servers)))  # to the scheduler
        return int(clock["known"] - handed + clock["waiting"] + clock["running"])

    @property
    def now(self) -> float:
        """When the last thing happened, s."""
        return float(self._engine.clock[0]["now"])

    def add(self, sequences: Array) -> None:
        """Further ones (`new_sequences`), ready after all that it was told of, and after all that has happened.

        Raises ValueError for one that is longer than max_model_len, of which there is no room for the blocks.
        """
        if sequences["end"].max(initial=0) > self._most:
            raise ValueError(f"a request of {sequences['end'].max()} tokens is longer than max_model_len {self._most}")
        known = int(self._engine.clock[0]["known"])
        if known + len(sequences) > len(self._engine.sequences):
            self._grow(2 * (known + len(sequences)))
        places = np.arange(known, known + len(sequences))
        self._engine.sequences[places] = sequences
        self._engine.sequences["server"][places] = places % len(self._engine.servers)
        self._engine.order[places] = places
        self._engine.clock["known"] = known + len(sequences)

    def until(self, time: float) -> None:
        """Go on until second `time`; what happens at that second is left for later. Raises SimulatorError, see engine.run."""
        lead(self._engine, self._step_time, self._logs, until=time)

    def finished(self) -> Finished:
        """Serve what is left, and say what came of all."""
        self.until(np.inf)
        return finished(self._engine, self._logs)

    def _grow(self, room: int) -> None:
        old, clock = self._engine, self._engine.clock[0]
        sequences, order, waiting = np.zeros(room, SEQUENCE), np.zeros(room, np.int64), np.zeros(room + 1, np.int64)
        sequences[: len(old.sequences)], order[: len(old.order)] = old.sequences, old.order
        ring = (clock["head"] + np.arange(clock["waiting"])) % len(old.waiting)
        waiting[: len(ring)] = old.waiting[ring]
        clock["head"] = 0
        self._engine = old._replace(sequences=sequences, order=order, waiting=waiting)
