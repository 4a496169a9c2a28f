"""How much one replica sustains of the mix of classes: what `plan capacity` asks, with a limit for each class."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulators.native.autoscaling.classes import Classes, judged
from simulators.native.autoscaling.requests import of_second
from simulators.native.fast.allocate import new_sequences
from simulators.native.fast.growing import GrowingEngine
from simulators.native.fast.serve import record_columns
from simulators.native.planning.attainment import Attainment, load_error, unseen
from simulators.native.planning.capacity import SustainedRate, find_sustained_rate
from simulators.native.planning.judge import TraceAt
from simulators.native.served import Frontend
from workloads.columns import columns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedReplica:
    """made: an engine, idle. seed: of the classes."""

    made: Callable[[], GrowingEngine]
    frontend: Frontend
    trace_at: TraceAt
    classes: Classes
    seed: int

    def attainment(self, rate: float, requests: int) -> Attainment:
        """Of the class that fares worst, at this rate of all together. Raises SimulatorError."""
        trace = self.trace_at(rate, requests)
        asked, engine = columns_of(trace), self.made()
        second = of_second(len(trace), self.classes.share, self.seed)
        reached = self.frontend.reached(asked.arrival, asked.input_tokens)
        engine.add(new_sequences(reached, asked.input_tokens, asked.output_tokens, priority=second.astype(np.int64)))
        records = record_columns(asked, engine.finished(), np.arange(len(trace)), {}, self.frontend.after)
        found = judged(records, second, self.classes)
        under_way = float(sum(one.took.sum() for one in found.values())) / trace.duration if trace.duration > 0 else np.inf
        off = load_error(asked)
        shares = [
            Attainment.of(one.good, in_flight=under_way, load_error=off, unseen=unseen(self.classes.slos[number], trace.duration))
            for number, one in found.items()
            if len(one.good)
        ]
        return dataclasses.replace(min(shares, key=lambda one: one.share), requests=len(trace))

    def sustained(self, wanted: float, *, precision: float, lengths: tuple[int, int]) -> SustainedRate | None:
        """The highest rate at which each class has the share `wanted`; see find_sustained_rate, whose errors it raises."""
        return find_sustained_rate(self.attainment, wanted, precision=precision, fewest=lengths[0], most=lengths[1])
