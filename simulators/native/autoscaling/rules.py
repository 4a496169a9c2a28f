"""Rules: how many replicas there should be now. A rule is stated in full here, so that its answer can be checked by hand."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from simulators.native.autoscaling.rates import DayRates

ROUNDING = 1e-9  # of floats: a load that is exactly at the tolerance is within it


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLoad:
    """What a rule may look at."""

    now: float  # s since the day's start
    in_flight: int  # requests at replicas that are not on their way out
    replicas: int  # those, the ones that are still starting included


class Rule(Protocol):
    """Asked at every control interval."""

    def wanted(self, load: FleetLoad) -> int:
        """Replicas; the fleet keeps it within its own bounds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """Always as many."""

    replicas: int

    def wanted(self, load: FleetLoad) -> int:
        """See Rule."""
        return self.replicas


@dataclass(slots=True, kw_only=True)
class InFlight:
    """As Kubernetes' horizontal pod autoscaler does with a mean per pod (its documentation, "Algorithm details"): ceil(in flight / target),
    but as many as there are while the mean is within `tolerance` of the target. Fewer only when for `stabilisation` seconds no more were
    wanted; more at once. Its limits on the pace of scaling up (at most double, or 4 pods, in 15 s) are left out.
    """

    target: float  # requests in flight of a replica
    tolerance: float  # share
    stabilisation: float  # s
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)  # what was wanted when, of the last `stabilisation` s

    def wanted(self, load: FleetLoad) -> int:
        """See Rule."""
        near = abs(load.in_flight / (self.target * load.replicas) - 1) <= self.tolerance + ROUNDING
        now = load.replicas if near else math.ceil(load.in_flight / self.target)
        self._wanted.append((load.now, now))
        while self._wanted[0][0] < load.now - self.stabilisation:
            self._wanted.popleft()
        return now if now >= load.replicas else min(load.replicas, max(number for _, number in self._wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The day's rate is known: as many as sustain the highest rate from now until a replica that is started at the next time is ready."""

    rates: DayRates
    sustained: float  # requests/s of one replica
    ahead: float  # s: start-up and a control interval

    def wanted(self, load: FleetLoad) -> int:
        """See Rule."""
        return math.ceil(self.rates.highest(load.now, load.now + self.ahead) / self.sustained)
