"""Scores one measured run's simulated ones: what is new of them. Read `MeasuredGroup.scored` first; pairs.py scores one pair."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from analysis import data
from analysis.data import Key, PartScore, RunRow, Score
from analysis.requests import RunRequests, StoredRequests, read_tokens
from analysis.scoring.pairs import KEYS, Scorer, scores_of
from analysis.scoring.saturation import Saturation, capacity_window, saturation
from analysis.stats import Bootstrap, Values

CAPACITY: Key = ("capacity", None)
PARTS = ("unsaturated", "saturated")

Metrics = Mapping[str, Mapping[Key, float | None]]  # run_id to what run_metrics says


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationRow(Saturation):
    """A row of the table `saturation`."""

    run_id: str
    capacity: float | None  # requests/s; None: it is not known to be saturated


@dataclass(frozen=True, kw_only=True)
class MeasuredGroupScores:
    """Rows that a group adds to the tables of these names; `noise` is still to come: it is over other groups, too."""

    saturation: Sequence[SaturationRow]
    fidelity: Sequence[Score]
    fidelity_parts: Sequence[PartScore]


@dataclass(frozen=True, kw_only=True)
class MeasuredGroup:
    """A measured run and those held against it, or a run that is held against none.

    unknown: its runs of which the saturation is unknown. known: the saturation of the others. unscored: its simulated runs that are to be
    scored.
    """

    measured: RunRow
    unknown: Sequence[RunRow]
    known: Mapping[str, SaturationRow]
    unscored: Sequence[RunRow]

    def scored(self, connection: duckdb.DuckDBPyConnection, metrics: Metrics, bootstrap: Bootstrap) -> MeasuredGroupScores:
        """Compute what is missing. The connection is this group's alone while it works."""
        requests = StoredRequests(connection)
        known = dict(self.known)
        for run in self.unknown:
            known[run.run_id] = _saturation_row(connection, run, requests[run.run_id])
        scoring = _Scoring(
            connection=connection,
            measured=self.measured,
            requests=requests,
            metrics=metrics,
            saturations=known,
            scorer=Scorer(requests=requests, loads={self.measured.run_id: self.measured.rho}, bootstrap=bootstrap),
        )
        return MeasuredGroupScores(
            saturation=[known[run.run_id] for run in self.unknown],
            fidelity=[row for run in self.unscored for row in scoring.scores(run)],
            fidelity_parts=[row for run in self.unscored for row in scoring.parts(run)],
        )


@dataclass(frozen=True, kw_only=True)
class _Scoring:
    """One measured run, and what scoring others against it reads."""

    connection: duckdb.DuckDBPyConnection
    measured: RunRow
    requests: StoredRequests
    metrics: Metrics
    saturations: Mapping[str, SaturationRow]
    scorer: Scorer

    def scores(self, simulated: RunRow) -> Iterator[Score]:
        """The rows of one pair."""
        measured, row = self.measured, scores_of(self.measured, simulated)
        estimates = self.scorer.estimates(measured, simulated)
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
            )
        yield from self.scorer.distances(measured, simulated)
        yield from self._capacity(simulated, row)

    def parts(self, simulated: RunRow) -> Iterator[PartScore]:
        """The rows of one pair on either side of the measured run's change point; none where it has no two sides."""
        change = self.saturations[self.measured.run_id].change_point
        if change is None:
            return
        later = self.requests[self.measured.run_id]["arrival"] >= change
        for part, mask in zip(PARTS, (~later, later), strict=True):
            if mask.any():
                for score in self.scorer.part(self.measured, simulated, mask):
                    yield PartScore(**{**dataclasses.asdict(score), "part": part})

    def _capacity(self, simulated: RunRow, row: Any) -> Iterator[Score]:
        """Capacity measured and simulated over the seconds in which both are saturated; no row where they are not both."""
        both = [self.saturations[run.run_id] for run in (self.measured, simulated)]
        changes = [found.change_point for found in both if found.saturated and found.change_point is not None]
        if len(changes) < 2:
            return
        requests = self.requests[self.measured.run_id]
        window = capacity_window(max(changes), requests["arrival"], requests["finished"])
        error = self.scorer.error_of_sums(*self._tokens(simulated, window))
        yield row(
            metric="capacity",
            stat=None,
            measured=_served(self.connection, self.measured, window),
            simulated=_served(self.connection, simulated, window),
            error=error.value,
            error_low=error.low,
            error_high=error.high,
        )

    def _tokens(self, simulated: RunRow, window: tuple[float, float]) -> list[Values]:
        """Output tokens of each request in the window, in the measured run's order."""
        order, found = self.requests[self.measured.run_id], []
        for run in (self.measured, simulated):
            tokens = read_tokens(self.connection, run.run_id, *window)
            found.append(RunRequests(run.run_id, self.requests[run.run_id].ids, {"tokens": tokens}).in_order_of(order)["tokens"])
        return found


def _saturation_row(connection: duckdb.DuckDBPyConnection, run: RunRow, requests: RunRequests) -> SaturationRow:
    found, capacity = saturation(requests["arrival"], requests["first_token"]), None
    if found.saturated and found.change_point is not None:
        capacity = _served(connection, run, capacity_window(found.change_point, requests["arrival"], requests["finished"]))
    return SaturationRow(run_id=run.run_id, **dataclasses.asdict(found), capacity=capacity)


def _served(connection: duckdb.DuckDBPyConnection, run: RunRow, window: tuple[float, float]) -> float | None:
    """Requests/s: output tokens produced in the window over those of a mean request of the trace."""
    tokens = float(np.nansum(read_tokens(connection, run.run_id, *window)))
    sql = "SELECT avg(output_tokens) AS mean FROM trace_requests WHERE trace_sha256 = ?"
    mean: float | None = data.rows(connection, sql, [run.trace_sha256])[0]["mean"]
    return tokens / (window[1] - window[0]) / mean if mean and window[1] > window[0] else None
