"""How far the difference of two runs may be off because other requests might have come: of the same requests in both, or of others.

Both runs served the same requests (the same trace, the same of them inside the window): a resample draws requests, and both runs get the
same ones, as a simulator and the run that it is held against do. Else each run has an interval of its own, and the two are combined
(MOVER: Zou and Donner 2008, doi:10.1002/sim.3095, to first order in the ratio). The laws of blocks.py hold for either: where a run has too
few requests for its load, or requests too much alike, there is no interval.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from analysis.data import Key, RunRow
from analysis.requests import LATENCIES, RunRequests, read_gaps, read_requests
from analysis.scoring.pairs import THROUGHPUT
from analysis.scoring.resampling import Described, Resamples, ValuePool
from analysis.stats import STATS, Bootstrap, Estimate, Values

SUMS = ("output_throughput", "goodput")


@dataclass(frozen=True, kw_only=True)
class RequestsSpread:
    """Half widths of an interval of B / A - 1: below it and above it, at the bootstrap's confidence."""

    below: float
    above: float


@dataclass(frozen=True, kw_only=True)
class SampledRun:
    """A run with its requests. gaps: between the tokens of each of them; None: it shows no token times."""

    run: RunRow
    requests: RunRequests
    gaps: Sequence[Values] | None

    def in_order_of(self, other: "SampledRun") -> "SampledRun":
        """The same requests in another run's order."""
        place = {int(request): at for at, request in enumerate(self.requests.ids)}
        gaps = None if self.gaps is None else [self.gaps[place[int(request)]] for request in other.requests.ids]
        return SampledRun(run=self.run, requests=self.requests.in_order_of(other.requests), gaps=gaps)


def sampled(connection: duckdb.DuckDBPyConnection, run: RunRow) -> SampledRun:
    """Read a run's requests. Raises AnalysisError for token times that cannot be read."""
    requests = read_requests(connection, run.run_id)
    return SampledRun(run=run, requests=requests, gaps=read_gaps(connection, run, requests) if requests.has_gaps else None)


def same_requests(one: SampledRun, other: SampledRun) -> bool:
    """Whether both runs are over the same requests: asked the same, and the same of them inside the window."""
    if one.run.trace_sha256 != other.run.trace_sha256 or set(one.requests.ids) != set(other.requests.ids):
        return False
    return bool(np.array_equal(one.requests.inside, other.requests.in_order_of(one.requests).inside))


def spreads(one: SampledRun, other: SampledRun, bootstrap: Bootstrap) -> dict[Key, RequestsSpread]:
    """The half widths of each statistic's difference; a statistic without an interval is left out."""
    return dict(_paired(one, other.in_order_of(one), bootstrap) if same_requests(one, other) else _apart(one, other, bootstrap))


def higher_load(one: RunRow, other: RunRow) -> float | None:
    """The higher of two runs' loads, offered / capacity; None: neither is known."""
    return max((run.rho for run in (one, other) if run.rho is not None), default=None)


def _paired(one: SampledRun, other: SampledRun, bootstrap: Bootstrap) -> Iterator[tuple[Key, RequestsSpread]]:
    resamples, plain = (Resamples(len(one.requests), bootstrap, load) for load in (higher_load(one.run, other.run), None))
    first, second = (_described(run, resamples, plain) for run in (one, other))
    for metric in first.keys() & second.keys():
        errors = (plain if metric in THROUGHPUT else resamples).errors(first[metric](), second[metric]())
        for stat, error in zip(_stats(metric), errors, strict=True):
            if error.value is not None and error.low is not None and error.high is not None:
                yield (metric, stat), RequestsSpread(below=error.value - error.low, above=error.high - error.value)


def _apart(one: SampledRun, other: SampledRun, bootstrap: Bootstrap) -> Iterator[tuple[Key, RequestsSpread]]:
    first, second = (_estimates(run, bootstrap) for run in (one, other))
    for key in first.keys() & second.keys():
        a, b = (_relative(found[key]) for found in (first, second))
        if a is not None and b is not None:
            ratio = b[0] / a[0]
            yield key, RequestsSpread(below=ratio * math.hypot(b[1], a[2]), above=ratio * math.hypot(b[2], a[1]))


def _estimates(run: SampledRun, bootstrap: Bootstrap) -> Mapping[Key, Estimate]:
    """A run's own statistics with their intervals."""
    resamples, plain = (Resamples(len(run.requests), bootstrap, load) for load in (run.run.rho, None))
    found: dict[Key, Estimate] = {}
    for metric, describe in _described(run, resamples, plain).items():
        estimates = (plain if metric in THROUGHPUT else resamples).estimates(describe())
        found |= {(metric, stat): estimate for stat, estimate in zip(_stats(metric), estimates, strict=True)}
    return found


def _described(run: SampledRun, resamples: Resamples, plain: Resamples) -> dict[str, Callable[[], Described]]:
    """What each metric of a run is on the resamples. Rates are sums over requests: the window's length is the same in each resample."""
    requests, inside, gaps = run.requests, run.requests.inside, run.gaps
    found: dict[str, Callable[[], Described]] = {}
    for metric in LATENCIES:
        found[metric] = lambda of=metric: resamples.describe(np.where(inside, requests[of], np.nan))  # type: ignore[misc]
    for rate in SUMS:
        found[rate] = lambda of=rate: (plain if of in THROUGHPUT else resamples).sums(requests[of])[0]  # type: ignore[misc]
    if gaps is not None:
        kept = [of if counts else of[:0] for of, counts in zip(gaps, inside, strict=True)]
        found["itl"] = lambda: resamples.describe_pool(ValuePool(kept))
    return found


def _stats(metric: str) -> Sequence[str | None]:
    return (None,) if metric in SUMS else STATS


def _relative(estimate: Estimate) -> tuple[float, float, float] | None:
    """A value, and how far below and above it its interval reaches, relative to it."""
    value, low, high = estimate.value, estimate.low, estimate.high
    return (value, (value - low) / value, (high - value) / value) if value and low is not None and high is not None else None
