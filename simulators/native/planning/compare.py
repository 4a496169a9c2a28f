"""Compares settings of engines: the highest rate that each sustains within an SLO, and which of them no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulators.errors import SimulatorError
from simulators.native.planning.capacity import SustainedRate
from simulators.native.planning.judge import Judge

SHOWN = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One combination of settings."""

    label: str  # what distinguishes it
    devices: int | None  # of all its engines; None: not known, its settings are wrong
    capacity: SustainedRate | None = None  # what it sustains; None: no rate
    latencies: Mapping[tuple[str, str], float | None] | None = None  # s, by (metric, stat), at that rate
    why_not: str | None = None  # there is no capacity

    @property
    def rate_per_device(self) -> float | None:
        """Requests/s a device."""
        return self.capacity.rate / self.devices if self.capacity and self.devices else None


def candidate(label: str, judge: Judge) -> Candidate:
    """The rate that a deployment sustains, and its latencies there."""
    try:
        capacity = judge.capacity()
    except (SimulatorError, ValueError) as error:
        return Candidate(label=label, devices=judge.devices, why_not=str(error).removeprefix("native: "))
    if capacity is None:
        return Candidate(label=label, devices=judge.devices, why_not=none_will_do(judge.wanted))
    latencies = judge.latencies_of(judge.served(capacity.rate, capacity.requests))
    return Candidate(label=label, devices=judge.devices, capacity=capacity, latencies={key: latencies[key] for key in SHOWN})


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The one with the most requests/s a device first."""
    return sorted(candidates, key=lambda c: -(c.rate_per_device or 0.0))


def none_will_do(attainment: float) -> str:
    """The answer when there is no capacity."""
    return f"at no rate do {attainment:.0%} of the requests meet the limits, not even one at a time"


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The Pareto front: those that no other one beats in both requests/s a device (more) and median TPOT (less), by rate."""
    known = [
        (c, rate, tpot)
        for c in candidates
        if (rate := c.rate_per_device) and c.latencies and (tpot := c.latencies["tpot", "p50"]) is not None
    ]
    best = [
        (c, rate)
        for c, rate, tpot in known
        if not any(more >= rate and least <= tpot and (more, least) != (rate, tpot) for _, more, least in known)
    ]
    return [c for c, _ in sorted(best, key=lambda pair: pair[1])]
