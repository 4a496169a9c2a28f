"""What analysis reads from the database: runs and scores as rows, requests as arrays. results/schema.sql says what the columns mean."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from analysis.stats import Values
from results.database import connect
from results.summary import costs

LIMITS = ("kv_tokens", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "chunked_prefill", "prefix_caching")
TRACKS = ("shipped", "matched", "calibrated")  # those that are scored: the oracle is a diagnosis
LOST = 0.01  # of a measured run's requests that a simulator may refuse or lose and still be compared with others
Key = tuple[str, str | None]  # (metric, stat)

REQUESTS = """
SELECT run_id, system, track, request_id, arrival, in_window, failed, ttft, tpot, e2e
FROM request_metrics JOIN requests USING (run_id, request_id) JOIN runs USING (run_id)
WHERE run_id = ?
ORDER BY arrival, request_id
"""
TELEMETRY = "SELECT time, name, value FROM telemetry WHERE run_id = ? AND NOT starts_with(name, 'step_')"  # without the engine's step log


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A row of the table `runs`."""

    run_id: str  # its name
    kind: str  # measured or simulated
    system: str  # vllm, sglang, vidur, ...
    version: str | None  # the system's own
    track: str | None  # of a simulated run
    measured_run_id: str | None  # the run that a simulated one is held against, if any
    workload: str  # its name
    model: str  # its name
    hardware: str  # its name
    rho: float | None  # offered load / measured capacity
    rate: float | None  # requests/s asked for
    repeat: int  # number of the repeat in its cell
    trace_sha256: str  # of the requests that were asked
    valid: bool  # the gates' verdict
    invalid_reason: str | None  # why it is invalid
    started_at: datetime  # UTC
    wall_s: float  # s that the replay or the simulation took
    window_start: float | None  # s; None: the whole run
    window_end: float | None  # s; None: the whole run
    slo_ttft: float | None  # s; None: no limit
    slo_tpot: float | None  # s; None: no limit
    slo_e2e: float | None  # s; None: no limit
    tensor_parallel: int | None  # devices of the engine
    path: str  # the run's folder
    config: Mapping[str, Any]  # as in results.record.Run
    provenance: Mapping[str, Any]  # as in results.record.Run
    limits: Mapping[str, Any]  # what the engine resolved its configuration to, by the names LIMITS
    study: str | None = None  # the study that it is part of, if any
    cell: str | None = None  # the same for runs that differ in the repeat only


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A row of the table `fidelity`: one statistic of one pair of runs. None: unknown."""

    measured_run_id: str  # the run that is held against
    simulated_run_id: str  # the run that is scored
    system: str  # the simulator
    track: str  # of the simulated run
    metric: str  # e.g. ttft, goodput
    stat: str | None  # mean, p50, ...; None: the metric is a rate
    measured: float | None = None  # in the metric's unit
    simulated: float | None = None  # in the metric's unit
    error: float | None = None  # simulated / measured - 1
    error_low: float | None = None  # lower end of its confidence interval
    error_high: float | None = None  # upper end of it
    noise: float | None = None  # the noise floor: the spread between repeats of the measured run, relative

    @property
    def key(self) -> Key:
        """(metric, stat)."""
        return self.metric, self.stat


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScore(Score):
    """A row of the table `fidelity_parts`: a Score over the requests of one part of a run."""

    part: str


class AnalysisError(RuntimeError):
    """Nothing to analyse, or not the run that was asked for; the message says what, where, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One measured run and every simulated run held against it, read from a scored database."""

    measured: RunRow  # the measured run
    simulated: tuple[RunRow, ...]  # by system and track
    metrics: Mapping[str, Mapping[Key, float | None]]  # run_id to what the view run_metrics says
    scores: tuple[Score, ...]  # in the order of `simulated`
    requests: pd.DataFrame  # a row per request and run, the measured run's first; columns as in REQUESTS, times in s
    telemetry: pd.DataFrame  # of the measured run; columns time (s), name, value
    costs: Mapping[str, Mapping[str, float]]  # run_id to J and USD a token, as results.summary.costs names them; only what is known
    law: Mapping[str, Any]  # its row of the view littles_law

    @property
    def runs(self) -> tuple[RunRow, ...]:
        """All of them, the measured one first."""
        return (self.measured, *self.simulated)

    @property
    def counted(self) -> int:
        """How many of the measured run's requests are in its statistics: inside the window, and not failed."""
        mine = self.requests[self.requests["run_id"] == self.measured.run_id]
        return int((mine["in_window"].astype(bool) & ~mine["failed"].astype(bool)).sum())

    @property
    def lost(self) -> dict[tuple[str, str], float]:
        """(system, track) to the share of the requests inside the window that the simulator refused or lost; its errors are over the
        others.
        """
        rates = {(run.system, str(run.track)): self.metrics[run.run_id].get(("error_rate", None)) for run in self.simulated}
        return {simulator: rate for simulator, rate in rates.items() if rate}


def compare(database: Path, measured_run_id: str | None = None) -> Comparison:
    """Read the comparison of one measured run (None: the newest). Raises AnalysisError when there is none such, DatabaseError when the
    database cannot be opened.
    """
    with open_database(database) as connection:
        known = runs(connection)
        measured = _chosen(database, known, measured_run_id)
        simulated = sorted(
            (run for run in known.values() if run.measured_run_id == measured.run_id and run.track in TRACKS),
            key=lambda run: (run.system, TRACKS.index(str(run.track)), run.run_id),
        )
        ids = [measured.run_id, *(run.run_id for run in simulated)]
        order = {run_id: place for place, run_id in enumerate(ids)}
        return Comparison(
            measured=measured,
            simulated=tuple(simulated),
            metrics=metric_values(connection, ids),
            scores=tuple(sorted(scores(connection, measured.run_id), key=lambda score: order[score.simulated_run_id])),
            requests=pd.concat([connection.execute(REQUESTS, [run_id]).df() for run_id in ids], ignore_index=True),
            telemetry=connection.execute(TELEMETRY, [measured.run_id]).df(),
            costs={run_id: costs(connection, run_id) for run_id in ids},
            law=rows(connection, "SELECT * FROM littles_law WHERE run_id = ?", [measured.run_id])[0],
        )


def _chosen(database: Path, known: Mapping[str, RunRow], run_id: str | None) -> RunRow:
    measured = [run for run in known.values() if run.kind == "measured"]
    if not measured:
        raise AnalysisError(f"{database}: it has no measured run; measure one with `make bench`, then `make report`")
    if run_id is None:
        return max(measured, key=lambda run: (run.started_at, run.run_id))
    if run_id not in known:
        near = get_close_matches(run_id, [run.run_id for run in measured], n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`./plumbline list` shows what is there"
        raise AnalysisError(f"{database}: no run is called {run_id}; {hint}")
    if known[run_id].kind != "measured":
        raise AnalysisError(f"{run_id} is a simulated run; give the measured one that it is held against: {known[run_id].measured_run_id}")
    return known[run_id]


def open_database(database: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """`results.database.connect`, on one thread: sums added up in another order differ in their last digits, and so would the scores."""
    connection = connect(database, read_only=read_only)
    connection.execute("SET threads = 1")
    return connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """The rows of a query, by column name."""
    result = connection.execute(sql, list(parameters))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def columns(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> dict[str, Values]:
    """The columns of a query as arrays of floats; NULL is NaN."""
    found = connection.execute(sql, list(parameters)).fetchnumpy()
    return {name: np.ma.filled(np.ma.asarray(column).astype(float), np.nan) for name, column in found.items()}


def runs(connection: duckdb.DuckDBPyConnection) -> dict[str, RunRow]:
    """Every run by its id, in the order of ids."""
    return {row["run_id"]: _run(row) for row in rows(connection, "SELECT * FROM runs ORDER BY run_id")}


def metric_values(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> dict[str, dict[Key, float | None]]:
    """The view `run_metrics` of the given runs: run_id to (metric, stat) to value."""
    values: dict[str, dict[Key, float | None]] = {run_id: {} for run_id in run_ids}
    for row in rows(connection, "SELECT run_id, metric, stat, value FROM run_metrics WHERE run_id IN (SELECT unnest(?))", [list(run_ids)]):
        values[row["run_id"]][row["metric"], row["stat"]] = row["value"]
    return values


def scores(connection: duckdb.DuckDBPyConnection, measured_run_id: str) -> list[Score]:
    """The rows of `fidelity` for one measured run, in the order in which they were written."""
    found = rows(connection, "SELECT * FROM fidelity WHERE measured_run_id = ? ORDER BY rowid", [measured_run_id])
    return [Score(**row) for row in found]


def by_simulator(scores: Sequence[Score]) -> dict[tuple[str, str], dict[Key, Score]]:
    """The scores of each (system, track), in their order."""
    found: dict[tuple[str, str], dict[Key, Score]] = {}
    for score in scores:
        found.setdefault((score.system, score.track), {})[score.key] = score
    return found


def _run(row: Mapping[str, Any]) -> RunRow:
    plain = {field.name: row[field.name] for field in dataclasses.fields(RunRow) if field.name in row}
    limits = {name: row[name] for name in LIMITS}
    return RunRow(**{**plain, "config": json.loads(row["config"]), "provenance": json.loads(row["provenance"]), "limits": limits})
