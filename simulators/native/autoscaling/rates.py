"""The rate of requests over a day: stated points of it, or a trace's own."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.project.caller import given
from simulators.native.planning import settings

Floats = NDArray[np.float64]
HOURS = 24.0  # of a day
PIECES = 1440  # of a day, each with one rate: minutes
QUARTERS = 96
FEWEST = 400  # requests of a piece that a trace's rate is counted over: its error is a twentieth
TRACE = "trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRates:
    """The rate in pieces of equal length, requests/s."""

    rates: Floats  # of each piece
    seconds: float  # that the day lasts; fewer than 86,400: a day in a shorter time

    @property
    def mean(self) -> float:
        """Of the day, requests/s."""
        return float(self.rates.mean())

    @property
    def peak(self) -> float:
        """The highest of all pieces, requests/s."""
        return float(self.rates.max())

    def highest(self, start: float, end: float) -> float:
        """The highest rate between two moments, s; the day begins again when it is over."""
        length = self.seconds / len(self.rates)
        pieces = np.arange(int(start // length), max(int(start // length) + 1, int(np.ceil(end / length))))
        return float(self.rates[pieces % len(self.rates)].max())

    def arrivals(self, rng: np.random.Generator) -> Floats:
        """Of a Poisson process with this rate over the day, s, to the nanosecond, ascending (by its order statistics)."""
        total = np.concatenate([[0.0], np.cumsum(self.rates)]) * (self.seconds / len(self.rates))
        passed = np.sort(rng.random(rng.poisson(total[-1]))) * total[-1]
        found: Floats = np.round(np.interp(passed, total, np.linspace(0.0, self.seconds, len(total))), 9)
        return found


def day_rates(profile: str, arrivals: Floats | None, *, mean: float | None, peak: float | None, seconds: float) -> DayRates:
    """profile: a name of conf/day, a CSV file with the columns hour and rate, or `trace`: as often as a trace's requests arrive (s).

    mean, peak: requests/s, one of them; the other follows. Raises ValueError.
    """
    relative = _of_trace(arrivals) if profile == TRACE else _between(_points(profile), profile)
    if (mean is None) == (peak is None):
        raise ValueError("day: give either rate (requests/s, the day's mean) or day.peak (requests/s at its highest)")
    scale = mean / relative.mean() if mean is not None else (peak or 0.0) / relative.max()
    return DayRates(rates=relative * scale, seconds=seconds)


def _of_trace(arrivals: Floats | None) -> Floats:
    """A trace's own rate in up to 96 pieces; its span is the day."""
    if arrivals is None:
        raise ValueError("day.profile=trace is of a trace's own times; give trace=FILE")
    counts, _ = np.histogram(arrivals, bins=int(np.clip(len(arrivals) // FEWEST, 1, QUARTERS)))
    return counts.astype(np.float64)


def _between(points: Sequence[tuple[float, float]], where: str) -> Floats:
    """The mean of each minute of the straight lines between points (hour, rate), the last one back to the first."""
    hours, rates = np.array(points).T
    if not (np.isfinite(rates).all() and (rates >= 0).all() and rates.max() > 0):
        raise ValueError(f"day.profile={where}: rates must be numbers >= 0, and one of them above 0")
    if not ((hours >= 0).all() and (hours < HOURS).all() and (np.diff(hours) > 0).all()):
        raise ValueError(f"day.profile={where}: hours must rise from 0 to below {HOURS:g}")
    edges = np.linspace(0.0, HOURS, PIECES + 1)
    at_edges: Floats = np.interp(edges, hours, rates, period=HOURS)
    return (at_edges[:-1] + at_edges[1:]) / 2


def _points(profile: str) -> list[tuple[float, float]]:
    if profile.endswith(".csv"):
        return _of_file(Path(given(profile)))
    found: Any = settings.choice("day", profile).get("points")
    try:
        return [(float(hour), float(rate)) for hour, rate in found]
    except (TypeError, ValueError) as error:
        raise ValueError(f"conf/day/{profile}.yaml: points must be a list of [hour, rate]; mend it") from error


def _of_file(path: Path) -> list[tuple[float, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = [(float(row["hour"]), float(row["rate"])) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"day.profile={path}: it must be a CSV file with the columns hour and rate, numbers ({error})") from error
    if not found:
        raise ValueError(f"day.profile={path}: it has no rows")
    return found
