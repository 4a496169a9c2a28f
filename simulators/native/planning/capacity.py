"""The capacity: the highest rate at which a share of the requests meets the SLO, from simulations as long as the answer needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from simulators.native.planning.attainment import Attainment

FIRST, NEXT = 600, 2_000  # requests of the simulations that find where to look, and of the first that count
MOST = 128_000  # requests of the longest simulation
SATURATING = 1024.0  # requests/s of the first simulation, which shows about how fast the engine serves when it never runs empty
APART = 1.3  # ratio of two rates between which is good enough a place to look
LASTS = 10.0  # times what a request takes on average: so long must a simulation be for a queue to build up
NEAR = 2.0  # times the precision: rates so near to each other have a straight line between them
STEEP = 3.0  # logits: a straight line between shares that are farther apart tells nothing (95 % of good requests to 49 %)
FINE = 0.25  # of the distance of NEAR: rates between which the share falls so steeply must be so near to each other
INSIDE = 0.35  # of the way between two rates: the next one is so far from both of them, at least, where the share falls steeply
# Times the load's error: a share hangs on the busiest stretches of a run, so its rate is less sure than the mean load of all of it. Fitted
# to seeded cases that tests/perf/test_capacity.py, which counts how often intervals hold what a long run gives, does not have.
STRETCHES = 1.25
ALONE = 0.02  # requests in flight of a server that serves one at a time
SPARE = 1.1  # times as many requests as would just do, since the next simulation's scatter may be larger
LONGER = (1.25, 8.0)  # times the simulation before, at least and at most, where its interval was too wide
TWICE = 2.0  # times the simulation before, where it was not
FASTEST = 2.0**40  # requests/s
FARTHEST = 16.0  # ratio of a rate that is tried to the one before

AttainmentAt = Callable[[float, int], Attainment]  # of a rate (requests/s) and a number of requests


@dataclass(frozen=True, slots=True, kw_only=True)
class SustainedRate:
    """Rates in requests/s."""

    rate: float  # at which the share is the one that was asked for
    low: float  # of its interval (attainment.CONFIDENCE); 0: not sure that any rate will do
    high: float  # of its interval
    requests: int  # of the longest simulation
    simulations: int  # that were made
    settled: bool  # whether the interval is as narrow as was asked


def find_sustained_rate(at: AttainmentAt, wanted: float, *, precision: float, fewest: int = NEXT, most: int = MOST) -> SustainedRate | None:
    """Simulate ever longer, until the interval reaches at most `precision` (a share of the rate) to either side. None: no rate will do.

    at: taken to fall with the rate. wanted: the share that must meet the SLO. fewest, most: requests of a simulation that counts.
    Raises ValueError when the share does not fall below what is wanted at any rate, and when the longest simulation is too short for a
    queue to build up.
    """
    guess, simulations = _sketch(at, wanted, most)
    if guess is None:
        return None
    requests, near, fine = min(fewest, most), 1 + NEAR * precision, 1 + FINE * NEAR * precision
    step = near
    while True:
        level = _Level(at, wanted, requests, near=near, fine=fine)
        start = guess / step**0.5  # the next one tried is as far beyond the guess: between them lies all of an interval that will do
        rate = level.crossing(0, start, step=step)
        if rate is None:
            return None
        wide, settled = level.reach(rate) / precision, False
        if wide <= SPARE or requests == most:
            low, high = level.interval(rate, start)
            wide = max(rate - low, high - rate) / (precision * rate)
            settled = wide <= 1 and level.lasts(rate) and low / near <= guess <= high * near
        simulations += level.simulations
        if settled or requests == most:
            if not level.lasts(rate):
                raise ValueError(_too_short(rate, level.near(rate)))
            return SustainedRate(rate=rate, low=low, high=high, requests=requests, simulations=simulations, settled=settled)
        guess, step = rate, fine**2 if level.fall * math.log(near) > STEEP else near
        # an interval narrows with the root of the requests
        longer = min(LONGER[1], max(LONGER[0], SPARE * wide**2)) if wide > 1 else TWICE
        requests = min(round(requests * longer), most)


def _sketch(at: AttainmentAt, wanted: float, most: int) -> tuple[float | None, int]:
    """About the rate, from simulations that are as long as it takes to see a share fall, and their number. None: no rate will do."""
    requests, simulations = min(FIRST, most), 1
    while (flooded := at(SATURATING, requests)).share >= wanted and requests < most:  # all are served before one of them is late
        requests, simulations = min(round(LONGER[1] * requests), most), simulations + 1
    level = _Level(at, wanted, requests, near=APART, fine=APART)
    return level.crossing(0, _fastest(flooded), step=APART), simulations + level.simulations


class _Level:
    """Simulations of one length: what is known of each rate that was tried."""

    def __init__(self, at: AttainmentAt, wanted: float, requests: int, *, near: float, fine: float) -> None:
        """near: ratio of two rates between which a straight line is drawn; fine: the same where the share falls steeply."""
        self._at, self._wanted, self._requests, self._near, self._fine = at, wanted, requests, near, fine
        self._known: dict[float, Attainment] = {}

    @property
    def simulations(self) -> int:
        return len(self._known)

    def near(self, rate: float) -> Attainment:
        """What is known of the rate next to this one."""
        return self._known[min(self._known, key=lambda known: abs(math.log(known / rate)))]

    @property
    def fall(self) -> float:
        """Logits by which the share falls, where it crosses, for each unit of the rate's logarithm."""
        below, above = self._around(0)
        assert below is not None and above is not None  # `crossing` has been there
        return (self._over(below, 0) - self._over(above, 0)) / math.log(above / below)

    def lasts(self, rate: float) -> bool:
        """Whether a queue can build up next to this rate."""
        near = self.near(rate)
        return near.requests >= LASTS * near.in_flight

    def reach(self, rate: float) -> float:
        """About how far from this rate, which `crossing` gave, its interval reaches: a share of it."""
        near = self.near(rate)
        by_share = self._logit(self._wanted) - self._logit(self._wanted - near.error)
        return max(math.expm1(min(1.0, by_share / self.fall)), STRETCHES * near.load_error) + near.unseen

    def interval(self, rate: float, guess: float) -> tuple[float, float]:
        """Of this rate, which `crossing` gave. guess: where to begin."""
        low, high = self.crossing(-1, guess, step=self._near), self.crossing(1, guess, step=self._near)
        assert high is not None  # it is above `rate`
        below, above = self._around(0)
        assert below is not None and above is not None  # `rate` is between them
        if self._steep(below, above):  # where between them it falls is not known
            low, high = low and min(low, below), max(high, above)
        near = self.near(rate)
        off = STRETCHES * near.load_error
        return max(0.0, min(low or 0.0, rate * (1 - off)) * (1 - near.unseen)), max(high, rate * (1 + off))

    def crossing(self, errors: int, start: float, *, step: float) -> float | None:
        """The rate at which the share plus so many errors is what is wanted, from two tried ones that are near to each other.

        None: it is less at every rate. start: tried first, then others in steps that grow from this ratio.
        """
        self._over(start, errors)
        following = step
        while True:
            low, high = self._around(errors)
            if low is not None and high is not None:
                steep = not errors and self._steep(low, high)
                if high <= low * (self._fine if steep else self._near) * (1 + 1e-9):
                    return self._between(low, high, errors)
                self._over(self._between(low, high, errors, inside=INSIDE if steep else 0.2), errors)
                continue
            if low is None and self._known[min(self._known)].in_flight < ALONE:
                return None
            if low is not None and low > FASTEST:
                raise ValueError(_never_fails(low, self._known[low]))
            self._over(low * step if low is not None else min(self._known) / step, errors)
            step, following = following, min(following * following, FARTHEST)

    def _around(self, errors: int) -> tuple[float | None, float | None]:
        """The highest rate that was tried and has what is wanted, and the next one, which has not; None: there is none."""
        low = max((rate for rate in self._known if self._over(rate, errors) >= 0), default=None)
        high = min((rate for rate in self._known if self._over(rate, errors) < 0 and rate > (low or 0.0)), default=None)
        return low, high

    def _steep(self, low: float, high: float) -> bool:
        """Whether the share falls so far between two rates that nothing is known of what is between them."""
        return self._over(low, 0) - self._over(high, 0) > STEEP

    def _over(self, rate: float, errors: int) -> float:
        """How far the share plus so many errors is above what is wanted, in logits, which the rate's logarithm moves nearly evenly."""
        if rate not in self._known:
            self._known[rate] = self._at(rate, self._requests)
        known = self._known[rate]
        return self._logit(known.share + errors * known.error) - self._logit(self._wanted)

    def _logit(self, share: float) -> float:
        least = 0.5 / self._requests
        inside = min(1 - least, max(least, share))
        return math.log(inside / (1 - inside))

    def _between(self, low: float, high: float, errors: int, *, inside: float = 0.0) -> float:
        """Where the straight line between the two crosses, so far inside at least (a share of the way between them)."""
        over, under = self._over(low, errors), -self._over(high, errors)
        weight = min(1 - inside, max(inside, over / (over + under)))
        return float(low * (high / low) ** weight)


def _fastest(known: Attainment) -> float:
    """About the rate at which requests are served when all come at once, since on average half of them are under way then."""
    shown = SATURATING * known.requests / (2 * known.in_flight) if 0 < known.in_flight < math.inf else math.inf
    return min(SATURATING / 2, shown)


def _never_fails(rate: float, known: Attainment) -> str:
    if known.requests < LASTS * known.in_flight:
        return (
            f"capacity: {known.requests} requests meet the limits however fast they come: the limits are loose (slo.ttft=0.5 is 500 ms) "
            "or the trace is too short for a queue to build up; give tighter limits, or a longer trace"
        )
    return f"it still holds at {rate:g} requests/s: nothing in it depends on the rate"


def _too_short(rate: float, near: Attainment) -> str:
    lasts, takes = near.requests / rate, near.in_flight / rate
    return (
        f"capacity: {near.requests} requests at {rate:.3g}/s last {lasts:.3g} s, and one takes {takes:.3g} s: too short for a queue "
        f"to build up; give a trace, or requests=N, of {LASTS:g} times that"
    )
