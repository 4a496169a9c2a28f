"""What analysis reads from the database: runs and scores as rows, requests as arrays. results/schema.sql says what the columns mean."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import numpy as np

from analysis.stats import Values

LIMITS = ("kv_tokens", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "chunked_prefill", "prefix_caching")
Key = tuple[str, str | None]  # (metric, stat)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A row of the table `runs`. config and provenance as the JSON they are; limits: what the engine resolved its configuration to."""

    run_id: str
    kind: str
    system: str
    version: str | None
    track: str | None
    measured_run_id: str | None
    workload: str
    model: str
    hardware: str
    rho: float | None
    rate: float | None
    repeat: int
    trace_sha256: str
    valid: bool
    invalid_reason: str | None
    started_at: datetime
    wall_s: float
    window_start: float | None
    window_end: float | None
    slo_ttft: float | None
    slo_tpot: float | None
    slo_e2e: float | None
    tensor_parallel: int | None
    path: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    limits: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A row of the table `fidelity`: one statistic of one pair of runs. error and its bounds are relative and signed."""

    measured_run_id: str
    simulated_run_id: str
    system: str
    track: str
    metric: str
    stat: str | None
    measured: float | None = None
    simulated: float | None = None
    error: float | None = None
    error_low: float | None = None
    error_high: float | None = None
    noise: float | None = None

    @property
    def key(self) -> Key:
        """(metric, stat)."""
        return self.metric, self.stat


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


def _run(row: Mapping[str, Any]) -> RunRow:
    plain = {field.name: row[field.name] for field in dataclasses.fields(RunRow) if field.name in row}
    limits = {name: row[name] for name in LIMITS}
    return RunRow(**{**plain, "config": json.loads(row["config"]), "provenance": json.loads(row["provenance"]), "limits": limits})
