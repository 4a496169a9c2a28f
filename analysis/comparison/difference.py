"""The difference of one statistic between two sides, with its interval. Read `difference` first.

Two things make it uncertain. Other requests might have come: requests_spread.py. And the same engine serves the same requests a little
otherwise each time: the noise floor, the relative standard deviation over repeats, pooled over both sides. Either gives a standard error,
they add up in quadrature, and the degrees of freedom are those of Welch and Satterthwaite (Welch 1947, doi:10.1093/biomet/34.1-2.28): eight
blocks of requests have seven, n repeats n - 1.

Where no side was repeated the noise floor is assumed (`Noise.measured` False): one run of each cannot show it.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.comparison.requests_spread import RequestsSpread
from analysis.comparison.sides import Repeats, Side
from analysis.data import Key
from analysis.scoring.blocks import BLOCKS
from analysis.stats import relative_spread

MANY = 1e9  # degrees of freedom of what is known exactly


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A noise floor. floor: relative standard deviation between repeats; freedom: its degrees; measured: repeats show it."""

    floor: float
    freedom: float
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One statistic on both sides. Values in the database's units, means over the runs of a side; differences relative to A."""

    key: Key  # metric and stat
    one: float | None  # A's value; None: unknown
    other: float | None  # B's value
    relative: float | None  # B / A - 1; None: one of the two is unknown, or A's is 0
    low: float | None  # lower end of its interval; None: it has none
    high: float | None  # upper end of it
    noise: Noise  # the spread between repeats
    requests: RequestsSpread | None  # what the choice of requests adds; None: not known
    runs: tuple[int, int]  # compared on each side
    confidence: float  # of the interval

    def chance(self, margin: float) -> float | None:
        """Two-sided p-value of 'the true difference is no larger than the margin'; None: there is no interval."""
        if self.relative is None or self.requests is None:
            return None
        error, freedom = _error(self, self.runs)
        beyond = max(0.0, abs(self.relative) - margin)
        return 1.0 if beyond == 0 else 0.0 if error == 0 else float(2 * special.stdtr(freedom, -beyond / error))


def difference(
    key: Key, sides: Sequence[tuple[Side, Repeats]], spread: RequestsSpread | None, noise: Noise, confidence: float
) -> Difference:
    """The difference of a statistic of two cells."""
    one, other = (_mean([side.values[run.run_id].get(key) for run in cell.runs]) for side, cell in sides)
    relative = other / one - 1 if one and other is not None else None
    runs = (len(sides[0][1].runs), len(sides[1][1].runs))
    found = Difference(
        key=key,
        one=one,
        other=other,
        relative=relative,
        low=None,
        high=None,
        noise=noise,
        requests=spread,
        runs=runs,
        confidence=confidence,
    )
    if relative is None or spread is None:
        return found
    low, high = (relative + sign * _reach(found, upper) for sign, upper in ((-1, False), (1, True)))
    return dataclasses.replace(found, low=low, high=high)


def noise_of(key: Key, sides: Sequence[tuple[Side, Repeats]], assumed: float) -> Noise:
    """The noise floor of a statistic, pooled over the repeats of both sides; `assumed` where there are none. Simulators have none."""
    if all(cell.is_simulated for _, cell in sides):
        return Noise(floor=0.0, freedom=MANY, measured=True)
    squares = freedom = 0.0
    for side, cell in sides[:1] if sides[0][1].shares_repeats_with(sides[1][1]) else sides:
        values = [value for run in cell.valid if (value := side.values[run.run_id].get(key)) is not None]
        spread = relative_spread(values)
        if spread is not None:
            squares, freedom = squares + (len(values) - 1) * spread**2, freedom + len(values) - 1
    if not freedom:
        return Noise(floor=assumed, freedom=MANY, measured=False)
    return Noise(floor=math.sqrt(squares / freedom), freedom=freedom, measured=True)


def error_with(found: Difference, runs: tuple[int, int], more_requests: float) -> tuple[float, float]:
    """The standard error of a difference, and its degrees of freedom, were there so many runs a side of so many times the requests."""
    return _error(found, runs, more_requests)


def _error(found: Difference, runs: tuple[int, int], more_requests: float = 1.0, upper: bool | None = None) -> tuple[float, float]:
    """upper: on that side of the difference; None: on the side of 0."""
    if found.relative is None or found.requests is None:
        raise ValueError(f"{found.key}: a difference without an interval has no standard error")
    upper = found.relative < 0 if upper is None else upper
    half = found.requests.above if upper else found.requests.below
    level = (1 + found.confidence) / 2
    by_requests = half / float(special.stdtrit(BLOCKS - 1, level)) / math.sqrt(more_requests)
    by_noise = (1 + found.relative) * found.noise.floor * math.sqrt(1 / runs[0] + 1 / runs[1])
    freedom = found.noise.freedom if runs == found.runs or not found.noise.measured else max(found.noise.freedom, sum(runs) - 2)
    total = by_requests**2 + by_noise**2
    return math.sqrt(total), total**2 / (by_requests**4 / (BLOCKS - 1) + by_noise**4 / freedom) if total else MANY


def _reach(found: Difference, upper: bool) -> float:
    error, freedom = _error(found, found.runs, upper=upper)
    return error * float(special.stdtrit(freedom, (1 + found.confidence) / 2))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
