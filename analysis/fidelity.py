"""Holds every simulated run against the run it simulates and fills the table `fidelity`. What is compared, and how, is in `score`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from analysis import data
from analysis.data import Key, RunRow, Score
from analysis.stats import (
    STATS,
    Bootstrap,
    Estimate,
    Pool,
    Values,
    ks_distance,
    mape,
    relative_error,
    relative_error_of_pools,
    relative_error_of_total,
    relative_spread,
    wasserstein_distance,
)

LATENCIES = ("ttft", "tpot", "e2e")
RATES = ("output_throughput", "request_rate", "goodput", "slo_attainment")
KEYS: tuple[Key, ...] = (*((metric, stat) for metric in (*LATENCIES, "itl") for stat in STATS), *((rate, None) for rate in RATES))

# One row per request: its latencies, and what it adds to each rate of metrics.sql (all rates are over the same window).
CONTRIBUTIONS = """
SELECT
    request_id, in_window, ttft, tpot, e2e,
    CASE WHEN NOT failed THEN tokens_inside(first_token, finished, output_tokens, window_start, window_end) ELSE 0 END AS output_throughput,
    NOT failed AND finished BETWEEN window_start AND window_end AS request_rate,
    good AND in_window AS goodput,
    good AND in_window AS slo_attainment
FROM request_metrics JOIN requests USING (run_id, request_id) JOIN windows USING (run_id)
WHERE run_id = ?
ORDER BY request_id
"""
GAPS = "SELECT request_id, itl FROM itl WHERE run_id = ? AND in_window ORDER BY request_id, token_index"

Metrics = Mapping[str, Mapping[Key, float | None]]  # run_id to what run_metrics says


def score(database: Path, bootstrap: Bootstrap = Bootstrap()) -> dict[str, str]:  # noqa: B008 - frozen
    """Fill the table `fidelity` anew, for every simulated run; return why, by run_id, for those that were refused.

    A pair is scored when both runs hold the same requests (equal trace_sha256); otherwise it is refused. Rows per pair:
    - ttft, tpot, e2e, itl at mean, p50, p90, p95, p99, and output_throughput, request_rate, goodput, slo_attainment (stat NULL):
      measured and simulated as run_metrics has them; error = simulated / measured - 1, with a paired bootstrap interval.
    - ttft, tpot, e2e with the stats 'mape' (error: a fraction, with its interval), 'ks' (error: the distance, 0 to 1),
      'wasserstein_s' (error: seconds) and 'wasserstein' (error: the same over the measured mean).
    noise: relative standard deviation over the valid repeats of the measured run (`runs.cell`), NULL for fewer than two.
    Pairs whose measured run is invalid are scored too, so that one can look into them: runs.valid says that they do not count.
    """
    with data.open_database(database, read_only=False) as connection:
        runs = data.runs(connection)
        connection.execute("DELETE FROM run_values; INSERT INTO run_values SELECT * FROM run_metrics")
        metrics = data.metric_values(connection, list(runs))
        scores: list[Score] = []
        refused: dict[str, str] = {}
        for simulated in [run for run in runs.values() if run.kind == "simulated" and run.track in data.TRACKS]:
            reason = _refusal(runs, simulated)
            if reason is None:
                scores += _pair_scores(connection, runs[str(simulated.measured_run_id)], simulated, runs, metrics, bootstrap)
            else:
                refused[simulated.run_id] = reason
        _replace(connection, scores)
    return refused


def _refusal(runs: Mapping[str, RunRow], simulated: RunRow) -> str | None:
    """Why a simulated run cannot be scored; None when it can."""
    measured = runs.get(str(simulated.measured_run_id))
    if measured is None:
        return f"its measured run {simulated.measured_run_id} is not in the database"
    if measured.trace_sha256 != simulated.trace_sha256:
        return f"not the same requests: its trace is {simulated.trace_sha256}, that of {measured.run_id} is {measured.trace_sha256}"
    return None


def _pair_scores(
    connection: duckdb.DuckDBPyConnection,
    measured: RunRow,
    simulated: RunRow,
    runs: Mapping[str, RunRow],
    metrics: Metrics,
    bootstrap: Bootstrap,
) -> Iterator[Score]:
    row = partial(
        Score,
        measured_run_id=measured.run_id,
        simulated_run_id=simulated.run_id,
        system=simulated.system,
        track=str(simulated.track),
    )
    one, other = (data.columns(connection, CONTRIBUTIONS, [run.run_id]) for run in (measured, simulated))
    inside = one["in_window"] == 1
    estimates = _estimates(one, other, inside, bootstrap)
    pools = [_pool(connection, run, one["request_id"][inside]) for run in (measured, simulated)]
    if pools[0] is not None and pools[1] is not None:
        estimates |= {("itl", stat): estimate for stat, estimate in relative_error_of_pools(pools[0], pools[1], bootstrap).items()}
    noise = _noise(runs, measured, metrics)
    for metric, stat in KEYS:
        truth, prediction = metrics[measured.run_id].get((metric, stat)), metrics[simulated.run_id].get((metric, stat))
        error = prediction / truth - 1 if truth and prediction is not None else None  # against 0 there is no relative error
        interval = estimates.get((metric, stat)) if error is not None else None
        yield row(
            metric=metric,
            stat=stat,
            measured=truth,
            simulated=prediction,
            error=error,
            error_low=interval.low if interval else None,
            error_high=interval.high if interval else None,
            noise=noise.get((metric, stat)),
        )
    for metric in LATENCIES:
        for stat, distance in _distances(one[metric][inside], other[metric][inside], bootstrap):
            yield row(metric=metric, stat=stat, error=distance.value, error_low=distance.low, error_high=distance.high)


def _estimates(one: Mapping[str, Values], other: Mapping[str, Values], inside: Any, bootstrap: Bootstrap) -> dict[Key, Estimate]:
    """Errors with intervals: of latencies over the requests inside the window, of rates over all requests."""
    estimates: dict[Key, Estimate] = {}
    for metric in LATENCIES:
        errors = relative_error(one[metric][inside], other[metric][inside], bootstrap)
        estimates |= {(metric, stat): estimate for stat, estimate in errors.items()}
    return estimates | {(rate, None): relative_error_of_total(one[rate], other[rate], bootstrap) for rate in RATES}


def _distances(measured: Values, simulated: Values, bootstrap: Bootstrap) -> Iterator[tuple[str, Estimate]]:
    yield "mape", mape(measured, simulated, bootstrap)
    yield "ks", Estimate(value=ks_distance(measured, simulated))
    shift = wasserstein_distance(measured, simulated)
    yield "wasserstein_s", Estimate(value=shift)
    mean = float(np.nanmean(measured)) if shift is not None else 0.0
    yield "wasserstein", Estimate(value=shift / mean if shift is not None and mean > 0 else None)


def _noise(runs: Mapping[str, RunRow], measured: RunRow, metrics: Metrics) -> dict[Key, float | None]:
    """The noise floor of each statistic over the valid repeats of a measured run; {} when it has none."""
    repeats = [run.run_id for run in runs.values() if run.kind == "measured" and run.valid and run.cell == measured.cell]
    if len(repeats) < 2:
        return {}
    values = {key: [metrics[repeat].get(key) for repeat in repeats] for key in KEYS}
    return {key: relative_spread([value for value in of_repeats if value is not None]) for key, of_repeats in values.items()}


def _pool(connection: duckdb.DuckDBPyConnection, run: RunRow, requests: Values) -> Pool | None:
    """The gaps between tokens of the given requests; None when the run shows no token times."""
    gaps = data.columns(connection, GAPS, [run.run_id])
    if not len(gaps["itl"]):
        return None
    starts, ends = (np.searchsorted(gaps["request_id"], requests, side=side) for side in ("left", "right"))
    return Pool([gaps["itl"][start:end] for start, end in zip(starts, ends, strict=True)])


def _replace(connection: duckdb.DuckDBPyConnection, scores: Sequence[Score]) -> None:
    """Put the new rows in place of the old ones, all or nothing."""
    names = [field.name for field in dataclasses.fields(Score)]
    connection.begin()
    connection.execute("DELETE FROM fidelity")
    if scores:
        marks = ", ".join("?" * len(names))
        rows = [[getattr(score, name) for name in names] for score in scores]
        connection.executemany(f"INSERT INTO fidelity ({', '.join(names)}) VALUES ({marks})", rows)
    connection.commit()
