"""What a simulator expects: the load at which the share of good requests falls below what is asked for.

The simulator is one of conf/simulator, asked as in a bench: it gets a run to replay, here one that nobody has measured, whose requests are
those that the search would send. What it says is where the search begins. No answer rests on it.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cell import Cell
from harness.engine import Endpoint
from harness.protocols import SimulatorLike
from harness.search.trials import goodness, settled
from results.profile import Profile
from results.record import RequestRecord, Run, Track

STEP, CLOSE = 2.0, 1.05  # ratios of loads: on the way to where the share falls, and of the two that it lies between at the end
DOUBLINGS = 12  # of the first load, at the most
MOST = 40  # simulations
ROUNDS = 20  # requests of a slot of a closed loop, at least
FIRST = 1.0  # load that is simulated first


@dataclass(frozen=True, kw_only=True)
class LoadForecast:
    """A simulator that is asked. requests: of one simulation."""

    simulator: SimulatorLike
    track: Track
    requests: int

    def load(self, cell_at: Callable[[float], Cell], endpoint: Endpoint, profile: Profile | None, wanted: float) -> float | None:
        """The load; None: not even the least one meets the SLO, or the highest one that was tried still does.

        cell_at: the cell of a load. Raises RuntimeError where the simulator cannot be had for this engine, or fails.
        """
        known: dict[float, float] = {}

        def holds(load: float) -> bool:
            if load not in known:
                known[load] = self._share(cell_at(load), endpoint, profile)
            return known[load] >= wanted

        whole = cell_at(FIRST).load.concurrency is not None
        step = STEP if holds(FIRST) else 1 / STEP
        if whole and step < 1:
            return None
        load = FIRST * step
        while holds(load) == (step > 1):
            load *= step
            if len(known) > DOUBLINGS:
                return None
        low, high = sorted((load, load / step))
        while high / low > CLOSE and len(known) < MOST and not (whole and high - low <= 1):
            middle = float(round(math.sqrt(low * high))) if whole else math.sqrt(low * high)
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low if whole else math.sqrt(low * high)

    def _share(self, cell: Cell, endpoint: Endpoint, profile: Profile | None) -> float:
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            planned = self._planned(cell, endpoint, profile)
            simulated = self.simulator.simulate(planned, track=self.track, profile=profile, scratch=Path(scratch))
        window = settled(simulated.records[0].arrival, simulated.records[-1].arrival)
        good, _ = goodness(dataclasses.replace(simulated, window=window))
        return float(good.mean())

    def _planned(self, cell: Cell, endpoint: Endpoint, profile: Profile | None) -> Run:
        """The run that a cell would come to, its requests sent as they are due."""
        rate, slots = cell.load.rate, cell.load.concurrency
        number = max(self.requests, ROUNDS * slots) if isinstance(slots, int) else self.requests
        trace = cell.workload.trace(
            rate=math.inf if rate is None else rate, num_requests=number, seed=cell.seed, max_model_len=endpoint.limits.max_model_len
        )
        return Run(
            run_id="planned",
            kind="measured",
            system=endpoint.system,
            version=endpoint.version,
            workload=cell.workload.name,
            model=cell.model.name,
            hardware=str(cell.hardware["name"]),
            trace=trace,
            records=tuple(RequestRecord(request_id=r.request_id, arrival=r.arrival, sent=r.arrival) for r in trace),
            limits=endpoint.limits,
            started_at="1970-01-01T00:00:00+00:00",
            wall_s=0.0,
            slo=cell.slo,
            rate=rate,
            config=cell.config(endpoint, None, profile),
        )


def chosen(simulators: Mapping[str, SimulatorLike], track: Track, requests: int) -> LoadForecast | None:
    """The simulator of a search; None: there is none. Raises ValueError for several, and for one without such a track."""
    if len(simulators) > 1:
        raise ValueError(f"search: one simulator says where to begin, got {', '.join(simulators)}: give simulator=[NAME], or simulator=[]")
    for simulator in simulators.values():
        if track not in simulator.tracks():
            raise ValueError(f"search: {simulator.system} has no track {track!r}; search.track is one of {', '.join(simulator.tracks())}")
        return LoadForecast(simulator=simulator, track=track, requests=requests)
    return None
