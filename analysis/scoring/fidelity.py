"""Scores a database: fills the tables of schema.sql from `run_values` on. Read `score` first; pairs.py scores one pair."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from analysis import data
from analysis.data import Key, PartScore, RunRow, Score
from analysis.requests import RunRequests, read_requests, read_tokens
from analysis.scoring.attribution import attributions
from analysis.scoring.pairs import KEYS, Scorer, scores_of
from analysis.scoring.rankings import rankings
from analysis.scoring.saturation import Saturation, capacity_window, saturation
from analysis.stats import Bootstrap, Values, relative_spread

CAPACITY: Key = ("capacity", None)
PARTS = ("unsaturated", "saturated")
HERE = Path(__file__).parent
SCORING = (*sorted(HERE.glob("*.py")), *(HERE.parent / name for name in ("data.py", "requests.py", "stats.py")))  # what a score comes from
REFUSALS = "SELECT simulated_run_id, refusal FROM pairs WHERE refusal IS NOT NULL AND track <> 'oracle' ORDER BY simulated_run_id"

Metrics = Mapping[str, Mapping[Key, float | None]]  # run_id to what run_metrics says


def score(database: Path, bootstrap: Bootstrap = Bootstrap()) -> dict[str, str]:  # noqa: B008 - frozen
    """Score every simulated run; return why, by run_id, for those that were refused. A database is scored once in its life with the same
    settings and the same code: it is made anew when runs change.

    A pair is scored when both runs hold the same requests (equal trace_sha256); otherwise it is refused. Rows of `fidelity` per pair:
    - ttft, tpot, e2e, itl at mean, p50, p90, p95, p99, and output_throughput, request_rate, goodput, slo_attainment (stat NULL):
      measured and simulated as run_metrics has them; error = simulated / measured - 1, with a paired block-bootstrap interval.
    - ttft, tpot, e2e with the stats 'mape' (error: a fraction, with its interval), 'ks' (error: the distance, 0 to 1),
      'wasserstein_s' (error: seconds) and 'wasserstein' (error: the same over the measured mean).
    - capacity, where both runs are saturated: requests/s served over the seconds in which both are (see saturation.py).
    noise: relative standard deviation over the valid repeats of the measured run (equal `cell`), NULL for fewer than two.
    `fidelity_parts` has latencies and SLO attainment of the requests before and behind the measured run's change point.
    Pairs whose measured run is invalid are scored too, so that one can look into them: runs.valid says that they do not count.
    The track oracle is no score: only `attribution` knows it.
    """
    with data.open_database(database, read_only=False) as connection:
        refused = {row["simulated_run_id"]: row["refusal"] for row in data.rows(connection, REFUSALS)}
        scored = f"{bootstrap} {_code()}"
        if data.rows(connection, "SELECT scored FROM plumbline") == [{"scored": scored}]:
            return refused
        connection.execute("DELETE FROM run_values; INSERT INTO run_values SELECT * FROM run_metrics")
        runs, requests = data.runs(connection), read_requests(connection)
        metrics = data.metric_values(connection, list(runs))
        saturations = {run: saturation(of["arrival"], of["first_token"]) for run, of in requests.items()}
        with_tokens = {row["run_id"] for row in data.rows(connection, "SELECT DISTINCT run_id FROM requests WHERE num_token_times > 1")}
        loads = {run.run_id: run.rho for run in runs.values()}
        scorer = Scorer(connection=connection, requests=requests, loads=loads, with_tokens=with_tokens, bootstrap=bootstrap)
        study = _Study(connection, runs, requests, metrics, saturations, scorer)
        pairs = [
            (runs[str(run.measured_run_id)], run)
            for run in runs.values()
            if run.kind == "simulated" and run.track in data.TRACKS and run.run_id not in refused
        ]
        pairs.sort(key=lambda pair: (pair[0].run_id, pair[1].run_id))
        tables: dict[str, Sequence[Any]] = {
            "saturation": list(study.saturation_rows()),
            "fidelity": [row for pair in pairs for row in study.scores(*pair)],
            "fidelity_parts": [row for pair in pairs for row in study.parts(*pair)],
            "attribution": list(attributions(runs, requests, metrics)),
            "rankings": list(rankings(runs, metrics)),
        }
        _replace(connection, tables, scored)
    return refused


def _code() -> str:
    """Digest of the code that computes scores: a database scored by other code is scored again.

    Code that draws or words them does not count.
    """
    return hashlib.sha256(b"".join(path.read_bytes() for path in SCORING)).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class _Study:
    """What scoring reads of a database."""

    connection: duckdb.DuckDBPyConnection
    runs: Mapping[str, RunRow]
    requests: Mapping[str, RunRequests]
    metrics: Metrics
    saturations: Mapping[str, Saturation]
    scorer: Scorer
    _noise: dict[tuple[str | None, str | None], Mapping[Key, float | None]] = dataclasses.field(default_factory=dict)

    def scores(self, measured: RunRow, simulated: RunRow) -> Iterator[Score]:
        """The rows of one pair."""
        row = scores_of(measured, simulated)
        estimates, noise = self.scorer.estimates(measured.run_id, simulated.run_id), self.noise(measured)
        for metric, stat in KEYS:
            truth, prediction = (self.metrics[run.run_id].get((metric, stat)) for run in (measured, simulated))
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
        yield from self.scorer.distances(measured, simulated)
        yield from self._capacity(measured, simulated, row)

    def parts(self, measured: RunRow, simulated: RunRow) -> Iterator[PartScore]:
        """The rows of one pair on either side of the measured run's change point; none where it has no two sides."""
        change = self.saturations[measured.run_id].change_point if measured.run_id in self.saturations else None
        if change is None:
            return
        later = self.requests[measured.run_id]["arrival"] >= change
        for part, mask in zip(PARTS, (~later, later), strict=True):
            if mask.any():
                for score in self.scorer.part(measured, simulated, mask):
                    yield PartScore(**{**dataclasses.asdict(score), "part": part})

    def noise(self, measured: RunRow) -> Mapping[Key, float | None]:
        """The noise floor of each statistic over the valid repeats of a measured run; {} when it has none."""
        cell = measured.study, measured.cell
        if cell not in self._noise:
            repeats = [run for run in self.runs.values() if run.kind == "measured" and run.valid and (run.study, run.cell) == cell]
            values = {key: [self.metrics[run.run_id].get(key) for run in repeats] for key in KEYS}
            values[CAPACITY] = [self._own_capacity(run) for run in repeats]
            self._noise[cell] = {key: relative_spread([v for v in of if v is not None]) for key, of in values.items()}
        return self._noise[cell]

    def saturation_rows(self) -> Iterator["_SaturationRow"]:
        """The rows of the table `saturation`."""
        for run_id, found in self.saturations.items():
            capacity = self._own_capacity(self.runs[run_id]) if found.saturated else None
            yield _SaturationRow(run_id=run_id, **dataclasses.asdict(found), capacity=capacity)

    def _own_capacity(self, run: RunRow) -> float | None:
        found, requests = self.saturations.get(run.run_id), self.requests.get(run.run_id)
        if found is None or requests is None or found.change_point is None or not found.saturated:
            return None
        window = capacity_window(found.change_point, requests["arrival"], requests["finished"])
        return self._served(run, window)

    def _served(self, run: RunRow, window: tuple[float, float]) -> float | None:
        """Requests/s: output tokens produced in the window over those of a mean request of the trace."""
        tokens = float(np.nansum(read_tokens(self.connection, run.run_id, *window)))
        mean = self._mean_tokens(run)
        return tokens / (window[1] - window[0]) / mean if mean and window[1] > window[0] else None

    def _mean_tokens(self, run: RunRow) -> float | None:
        sql = "SELECT avg(output_tokens) AS mean FROM trace_requests WHERE trace_sha256 = ?"
        mean: float | None = data.rows(self.connection, sql, [run.trace_sha256])[0]["mean"]
        return mean

    def _capacity(self, measured: RunRow, simulated: RunRow, row: Any) -> Iterator[Score]:
        """Capacity measured and simulated over the seconds in which both are saturated; no row where they are not both."""
        both = [self.saturations.get(run.run_id) for run in (measured, simulated)]
        changes = [found.change_point for found in both if found is not None and found.saturated and found.change_point is not None]
        if len(changes) < 2:
            return
        requests = self.requests[measured.run_id]
        window = capacity_window(max(changes), requests["arrival"], requests["finished"])
        truth, prediction = self._served(measured, window), self._served(simulated, window)
        error = self.scorer.error_of_sums(*self._tokens(measured, simulated, window))
        noise = self.noise(measured).get(CAPACITY)
        yield row(
            metric="capacity",
            stat=None,
            measured=truth,
            simulated=prediction,
            error=error.value,
            error_low=error.low,
            error_high=error.high,
            noise=noise,
        )

    def _tokens(self, measured: RunRow, simulated: RunRow, window: tuple[float, float]) -> list[Values]:
        """Output tokens of each request in the window, in the measured run's order."""
        order, found = self.requests[measured.run_id], []
        for run in (measured, simulated):
            tokens = read_tokens(self.connection, run.run_id, *window)
            found.append(RunRequests(run.run_id, self.requests[run.run_id].ids, {"tokens": tokens}).in_order_of(order)["tokens"])
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _SaturationRow(Saturation):
    """A row of the table `saturation`."""

    run_id: str
    capacity: float | None


def _replace(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Sequence[Any]], scored: str) -> None:
    """Put the new rows in place of the old ones, all or nothing."""
    connection.begin()
    for table, found in tables.items():
        connection.execute(f"DELETE FROM {table}")
        if found:
            names = [field.name for field in dataclasses.fields(found[0])]
            frame = pd.DataFrame({name: pd.Series([getattr(row, name) for row in found], dtype=object) for name in names})
            connection.register("new_rows", frame)
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")
            connection.unregister("new_rows")
    connection.execute("UPDATE plumbline SET scored = ?", [scored])
    connection.commit()
