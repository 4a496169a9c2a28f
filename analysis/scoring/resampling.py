"""Bootstrap resamples of a run's requests, and what the statistics are on each of them.

Two runs hold the same requests, so all resampling is paired: a resample draws requests, and both runs get the same ones. It draws
blocks of requests in order of arrival (the stationary bootstrap of Politis and Romano 1994, doi:10.1080/01621459.1994.10476870: blocks
begin anywhere, their lengths are geometric, the last request is followed by the first), so that what neighbours share is kept. Blocks are
long, and a run has only BLOCKS of them; Student's t makes the interval wider for that (Schmeiser 1982, Batch size effects in the analysis
of simulation output, doi:10.1287/opre.30.3.556). Lengths chosen from the autocorrelation would be too short whenever a short run hides
how much alike its requests are. Where the errors are alike over more than a third of a block (blocks.py), the interval is unknown.

An interval covers the choice of requests; it does not cover what differs when the same run is repeated: that is the noise floor
(`stats.relative_spread`).

A short run near saturation that happened to be calm shows neither a long correlation nor the busy stretches that make its errors. So an
interval is given only for as many requests as the run's load asks for (`blocks.enough`), where the load is known.

How often a given 95 % interval holds the true error, measured on engines simulated twice (tests/perf/test_intervals.py: two engines, two
wrong simulators, three latencies, 150 runs each; medians over these, the least in brackets). Quantiles: 93 to 100 % (78 %), at 30 % load
from 60 requests on, at 60 % from 200 on, at 80 % from 500 on; at 90 % 2,000 requests have none. Means, which hang on rare long queues:
82 to 94 % at 30 % load (57 %), 90 % of 2,000 requests at 60 % (86 %). If the load did not count, 60 to 2,000 requests would have an
interval in 60 to 100 % of the runs, and it would hold the truth at 80 % load in 51 to 80 % (means) and 90 to 94 % (medians) of those, at
90 % load in 14 to 60 and 45 to 72 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import special

from analysis.scoring.blocks import BLOCKS, HIDDEN, enough, error_series, hidden
from analysis.stats import QUANTILES, Bootstrap, Estimate, Values, describe, known
from workloads.correlation import correlation_time

Weights = npt.NDArray[np.uint16]
BATCH = 4_000_000  # random numbers at a time
KEPT = 8  # sets of resamples that are kept for the next run of as many requests


@dataclass(frozen=True, slots=True)
class Described:
    """Statistics of a run and of each of its resamples. point: shape (k,). draws: (k, resamples). series: what each request adds, (n,)."""

    point: Values
    draws: Values
    series: Values


class Resamples:
    """The resamples of n requests, as often as each is drawn, in order of arrival. weights: shape (resamples, n).

    load: of the run, offered / capacity; None: it is unknown, or the statistics do not depend on it.
    """

    def __init__(self, n: int, bootstrap: Bootstrap, load: float | None = None) -> None:
        self.bootstrap, self.load, self._block = bootstrap, load, max(1.0, n / BLOCKS)
        self.weights = _weights(n, self._block, bootstrap.resamples, bootstrap.seed)

    def describe(self, values: Values) -> Described:
        """Mean and QUANTILES, as `stats.describe` has them, of values[i] of request i; NaN: it has none."""
        order = np.argsort(values)[: int(np.isfinite(values).sum())]
        return Described(describe(values), _describe(self.weights, order, values[order], np.array(QUANTILES)), values)

    def means(self, *columns: Values) -> list[Described]:
        """The mean alone, of each column."""
        there = [np.isfinite(values) for values in columns]
        totals = self._totals([*(np.where(known, values, 0.0) for known, values in zip(there, columns, strict=True)), *there])
        sums, counts = totals[: len(columns)], totals[len(columns) :]
        with np.errstate(invalid="ignore"):
            return [Described(describe(values)[:1], (sums[k] / counts[k])[None], values) for k, values in enumerate(columns)]

    def sums(self, *columns: Values) -> list[Described]:
        """The sum of each column, NaNs left out."""
        clean = [np.nan_to_num(values) for values in columns]
        return [Described(np.array([values.sum()]), row[None], values) for values, row in zip(clean, self._totals(clean), strict=True)]

    def _totals(self, columns: Sequence[npt.NDArray[Any]]) -> Values:
        """Sums over each resample: (columns, resamples)."""
        return _totals(self.weights, np.stack(columns).astype(np.float64))

    def describe_pool(self, pool: "ValuePool") -> Described:
        """Mean and QUANTILES of values of which a request has many: a resample draws whole requests, with all their values."""
        everyone = np.ones((1, len(pool.sizes)), dtype=np.uint16)
        return Described(pool.describe(everyone)[:, 0], pool.describe(self.weights), pool.sums)

    def errors(self, measured: Described, simulated: Described) -> list[Estimate]:
        """Signed relative error of each statistic, simulated / measured - 1, with its interval; undefined against a measured 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            point, draws = (
                np.where(one > 0, other / one - 1, np.nan)
                for one, other in ((measured.point, simulated.point), (measured.draws, simulated.draws))
            )
        return self.estimates(Described(point, draws, error_series(measured.series, simulated.series)))

    def estimates(self, described: Described) -> list[Estimate]:
        """Each statistic with its interval. None: it is undefined, in the run or in some resample.

        There is no interval for a single request, for too few requests at this load (`enough`), and where requests are so much alike that
        blocks hide more than HIDDEN of the variance.
        """
        low, high = np.full((2, len(described.point)), np.nan)
        more = hidden(correlation_time(described.series), self._block)
        if len(self.weights[0]) > 1 and more <= HIDDEN:
            level, told = self._level(more), enough(int(np.isfinite(described.series).sum()), self.load)[: len(low)]
            low[told], high[told] = np.quantile(described.draws[told], (level, 1 - level), axis=1)
        bounds = zip(described.point, low, high, strict=True)
        return [Estimate(value=known(value), low=known(one), high=known(other)) for value, one, other in bounds]

    def _level(self, more: float) -> float:
        """The percentile of the resamples that is the lower end of an interval. more: variance that blocks hide, over what they show.

        The expanded percentile interval (Hesterberg 2015, doi:10.1080/00031305.2015.1089789): further out than the normal distribution's
        tail, as B blocks show too little of the spread, by sqrt(B / (B - 1)), by as much as Student's t of B - 1 is wider, and by what is
        hidden.
        """
        blocks = max(2.0, len(self.weights[0]) / self._block)
        wider = np.sqrt(blocks / (blocks - 1) * (1 + more))
        return float(special.ndtr(wider * special.stdtrit(blocks - 1, (1 - self.bootstrap.confidence) / 2)))


class ValuePool:
    """Values of which a request has many (its inter-token gaps), made so that all resamples of requests cost one matrix product.

    groups: one array per request, in the requests' order; may be empty. More than `grid` distinct values are rounded down to that
    many of their own quantiles, half of them in the upper tenth: far finer than the interval's own width.
    """

    def __init__(self, groups: Sequence[Values], grid: int = 512) -> None:
        pooled = np.concatenate([*groups, np.empty(0)])
        self.sizes = np.array([len(group) for group in groups], dtype=float)
        owners = np.repeat(np.arange(len(groups)), self.sizes.astype(int))
        self.sums: Values = np.bincount(owners, pooled, minlength=len(groups)).astype(np.float64)
        self.values = np.unique(pooled)
        if len(self.values) > grid:
            levels = np.concatenate([np.linspace(0, 0.9, grid // 2), np.linspace(0.9, 1, grid // 2)])
            self.values = np.unique(np.quantile(pooled, levels, method="lower"))
        cells = np.searchsorted(self.values, pooled, side="right") - 1
        width = len(self.values)
        counts = np.bincount(owners * width + cells, minlength=len(groups) * width).reshape(len(groups), width)
        self.counts = np.cumsum(counts, axis=1, dtype=np.float32)  # [i, k]: request i's values <= values[k]

    def describe(self, weights: Weights) -> Values:
        """`stats.describe` of all the values, request i's counted weights[..., i] times: shape (resamples, n) -> (5, resamples)."""
        count = weights @ self.sizes
        cumulative = weights.astype(np.float32) @ self.counts
        with np.errstate(invalid="ignore"):
            out = [weights @ self.sums / count]
        for q in QUANTILES:
            position = np.maximum(count - 1, 0) * q
            low, high = (self._at_rank(cumulative, rank) for rank in (np.floor(position), np.ceil(position)))
            out.append(np.where(count > 0, low + (high - low) * (position % 1), np.nan))
        return np.stack(out)

    def _at_rank(self, cumulative: npt.NDArray[np.float32], rank: Values) -> Values:
        found: Values = np.append(self.values, np.nan)[_first_above(cumulative, rank)]
        return found


@lru_cache(maxsize=KEPT)
def _weights(n: int, block: float, resamples: int, seed: int) -> Weights:
    """How often each of n requests is in each resample, from one seed."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, n), dtype=np.uint16)
    rows = max(1, BATCH // max(1, n))
    for first in range(0, resamples if n else 0, rows):
        part = weights[first : first + rows]
        starts = rng.integers(0, n, part.shape)
        jumps = rng.random(part.shape) if block > 1 else np.zeros(part.shape)
        _draw(part, starts, jumps, 1 / block)
    return weights


@njit(cache=True, nogil=True)
def _draw(weights: Weights, starts: npt.NDArray[np.int64], jumps: Values, chance: float) -> None:
    """A resample a row: go on to the next request, or with `chance` to a random one."""
    resamples, n = weights.shape
    for r in range(resamples):
        at = starts[r, 0]
        weights[r, at] += 1
        for i in range(1, n):
            at = starts[r, i] if jumps[r, i] < chance else (at + 1) % n
            weights[r, at] += 1


@njit(cache=True, nogil=True, fastmath={"reassoc"})  # several terms of a sum at once
def _totals(weights: Weights, values: Values) -> Values:
    """Sums of each row of values, shape (k, n), over each resample: (k, resamples)."""
    resamples, n = weights.shape
    out = np.zeros((len(values), resamples))
    for r in range(resamples):
        row = weights[r].astype(np.float64)
        for k in range(len(values)):
            total = 0.0
            for i in range(n):
                total += row[i] * values[k, i]
            out[k, r] = total
    return out


@njit(cache=True, nogil=True)
def _describe(weights: Weights, order: npt.NDArray[np.intp], values: Values, quantiles: Values) -> Values:
    """Mean and quantiles of each resample. order: the requests that have a value, by it; values: in that order."""
    resamples, n = len(weights), len(order)
    out = np.full((1 + len(quantiles), resamples), np.nan)
    reached = np.empty(n, dtype=np.int64)
    for r in range(resamples):
        count, total = 0, 0.0
        for k in range(n):
            weight = weights[r, order[k]]
            count += weight
            total += weight * values[k]
            reached[k] = count
        if count == 0:
            continue
        out[0, r] = total / count
        for j in range(len(quantiles)):
            position = (count - 1) * quantiles[j]
            below = int(position)
            low = values[np.searchsorted(reached, below, side="right")]
            high = values[np.searchsorted(reached, min(below + 1, count - 1), side="right")]
            out[1 + j, r] = low + (high - low) * (position - below)
    return out


@njit(cache=True, nogil=True)
def _first_above(cumulative: npt.NDArray[np.float32], rank: Values) -> npt.NDArray[np.int64]:
    """In each row, ascending, the index of the first entry above the row's rank."""
    found = np.empty(len(rank), dtype=np.int64)
    for r in range(len(rank)):
        found[r] = np.searchsorted(cumulative[r], rank[r], side="right")
    return found
