"""Scores one simulated run against the run it simulates: errors with intervals, distances, on the whole and on parts of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from analysis.data import Key, RunRow, Score
from analysis.requests import LATENCIES, RATES, StoredRequests, read_gaps
from analysis.scoring.resampling import Described, Resamples, ValuePool
from analysis.stats import STATS, Bootstrap, Estimate, Values, known, ks_distance, relative_errors, wasserstein_distance

METRICS = (*LATENCIES, "itl")
THROUGHPUT = ("output_throughput", "request_rate")  # it is what comes in or, above capacity, what the engine can serve: no queue changes it
KEYS: tuple[Key, ...] = (*((metric, stat) for metric in METRICS for stat in STATS), *((rate, None) for rate in RATES))
T = TypeVar("T")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores pairs. requests: of all runs; loads: of measured runs, offered / capacity, where known; bootstrap: how intervals are made.

    What was computed of a measured run is kept for its next simulator.
    """

    requests: StoredRequests
    loads: Mapping[str, float | None]
    bootstrap: Bootstrap
    _kept: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def resamples(self, measured: str) -> Resamples:
        """Resamples of all requests, for statistics that depend on the load: all but throughput."""
        return Resamples(len(self.requests[measured]), self.bootstrap, self.loads.get(measured))

    def error_of_sums(self, measured: Values, simulated: Values) -> Estimate:
        """The error of a sum over requests. Requests that add nothing to it are left out of the resamples."""
        counted = (np.nan_to_num(measured) != 0) | (np.nan_to_num(simulated) != 0)
        one, other = measured[counted], simulated[counted]
        resamples = Resamples(len(one), self.bootstrap)
        return resamples.errors(*resamples.sums(one, other))[0]

    def estimates(self, measured: RunRow, simulated: RunRow) -> dict[Key, Estimate]:
        """The error of every statistic of KEYS that both runs have: of latencies over requests inside the window, of rates over all."""
        resamples = self.resamples(measured.run_id)
        one = self._described(measured.run_id, measured.run_id, resamples)
        other = self._described(simulated.run_id, measured.run_id, resamples, longer=_length(measured) / _length(simulated))
        plain = Resamples(len(self.requests[measured.run_id]), self.bootstrap)
        errors = {group: (plain if group in THROUGHPUT else resamples).errors(one[group], other[group]) for group in one}
        if all(self.requests[run.run_id].has_gaps for run in (measured, simulated)):
            errors["itl"] = resamples.errors(*(self._gaps(run, measured.run_id, resamples) for run in (measured, simulated)))
        found: dict[Key, Estimate] = {}
        for group, estimates in errors.items():
            stats = STATS if group in METRICS else (None,)
            found |= {(group, stat): estimate for stat, estimate in zip(stats, estimates, strict=True)}
        return found

    def part(self, measured: RunRow, simulated: RunRow, mask: Mask) -> Iterator[Score]:
        """The scores of the requests of `mask` alone (in the measured run's order): latencies and SLO attainment."""
        whole = self.requests[measured.run_id]
        kept = whole.inside & mask
        one, other = (run.only(kept) for run in (whole, self.requests[simulated.run_id].in_order_of(whole)))
        pairs = [(one[metric], other[metric]) for metric in LATENCIES]
        resamples = Resamples(len(one), self.bootstrap, self.loads.get(measured.run_id))
        row = scores_of(measured, simulated)
        for metric in (*LATENCIES, "slo_attainment"):
            stats: Sequence[str | None] = STATS if metric in LATENCIES else (None,)
            columns = (one[metric], other[metric])
            sides = [resamples.describe(column) for column in columns] if metric in LATENCIES else resamples.means(*columns)
            for stat, m, s, error in zip(stats, sides[0].point, sides[1].point, resamples.errors(*sides), strict=True):
                yield row(
                    metric=metric,
                    stat=stat,
                    measured=known(m),
                    simulated=known(s),
                    error=error.value,
                    error_low=error.low,
                    error_high=error.high,
                )
        yield from _distances(pairs, resamples, row)

    def distances(self, measured: RunRow, simulated: RunRow) -> Iterator[Score]:
        """Per-request errors and distances between the distributions of the latencies inside the window."""
        one = self.requests[measured.run_id]
        other = self.requests[simulated.run_id].in_order_of(one)
        pairs = [(_only(one[metric], one.inside), _only(other[metric], one.inside)) for metric in LATENCIES]
        yield from _distances(pairs, self.resamples(measured.run_id), scores_of(measured, simulated))

    def _described(self, run_id: str, measured: str, resamples: Resamples, *, longer: float = 1.0) -> dict[str, Described]:
        """A run's latencies and rates on the resamples. longer: the measured window over the run's, so that rates compare."""

        def describe() -> dict[str, Described]:
            order = self.requests[measured]
            requests = self.requests[run_id].in_order_of(order)
            found = {metric: resamples.describe(_only(requests[metric], order.inside)) for metric in LATENCIES}
            rates = (requests[rate] * (1.0 if rate == "slo_attainment" else longer) for rate in RATES)
            return found | dict(zip(RATES, resamples.sums(*rates), strict=True))

        return self._keep((run_id,), describe) if run_id == measured else describe()

    def _gaps(self, run: RunRow, measured: str, resamples: Resamples) -> Described:
        """A run's gaps between tokens on the resamples."""

        def describe() -> Described:
            order = self.requests[measured]
            gaps = read_gaps(self.requests.connection, run, self.requests[run.run_id].in_order_of(order))
            return resamples.describe_pool(ValuePool([of if inside else of[:0] for of, inside in zip(gaps, order.inside, strict=True)]))

        return self._keep((run.run_id, "itl"), describe) if run.run_id == measured else describe()

    def _keep(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept


def _length(run: RunRow) -> float:
    """Seconds of a run's window; 1 of a run that is measured whole."""
    known = run.window_start is not None and run.window_end is not None and run.window_end > run.window_start
    return run.window_end - run.window_start if known else 1.0  # type: ignore[operator]


def scores_of(measured: RunRow, simulated: RunRow) -> Any:
    """A function that makes a Score of this pair from what is scored."""
    return partial(
        Score,
        measured_run_id=measured.run_id,
        simulated_run_id=simulated.run_id,
        system=simulated.system,
        track=str(simulated.track),
    )


def _distances(pairs: Sequence[tuple[Values, Values]], resamples: Resamples, row: Any) -> Iterator[Score]:
    """pairs: measured and simulated values of each of LATENCIES."""
    means = resamples.means(*(relative_errors(*values) for values in pairs))
    for metric, (truth, prediction), mean_error in zip(LATENCIES, pairs, means, strict=True):
        mape = resamples.estimates(mean_error)[0]
        yield row(metric=metric, stat="mape", error=mape.value, error_low=mape.low, error_high=mape.high)
        yield row(metric=metric, stat="ks", error=ks_distance(truth, prediction))
        shift = wasserstein_distance(truth, prediction)
        yield row(metric=metric, stat="wasserstein_s", error=shift)
        mean = float(np.nanmean(truth)) if shift is not None else 0.0
        yield row(metric=metric, stat="wasserstein", error=shift / mean if shift is not None and mean > 0 else None)


def _only(values: Values, mask: Mask) -> Values:
    return np.where(mask, values, np.nan)
