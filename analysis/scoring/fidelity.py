"""Scores a database: fills the tables of schema.sql from `fidelity` on. Read `score` first; measured_group.py scores one measured run."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from analysis import data
from analysis.data import RunRow
from analysis.requests import StoredRequests
from analysis.scoring.attribution import attributions
from analysis.scoring.measured_group import CAPACITY, MeasuredGroup, MeasuredGroupScores, Metrics, SaturationRow
from analysis.scoring.pairs import KEYS
from analysis.scoring.rankings import rankings
from analysis.stats import Bootstrap, relative_spread
from results.database import changing
from results.project.parallel import in_order
from results.project.progress import Progress

HERE = Path(__file__).parent
SCORING = (*sorted(HERE.glob("*.py")), *(HERE.parent / name for name in ("data.py", "requests.py", "stats.py")))  # what a score comes from
REFUSALS = "SELECT simulated_run_id, refusal FROM pairs WHERE refusal IS NOT NULL AND track <> 'oracle' ORDER BY simulated_run_id"
DIGESTS = "SELECT run_id, first(digest ORDER BY rowid) AS digest FROM folders GROUP BY run_id"
ORDERED = """
CREATE TEMP TABLE ordered AS SELECT * FROM {table} ORDER BY {columns}, rowid;
DELETE FROM {table};
INSERT INTO {table} SELECT * FROM ordered;
DROP TABLE ordered
"""
NOISE = """
UPDATE fidelity SET noise = floors.noise FROM given AS floors
WHERE floors.measured_run_id = fidelity.measured_run_id AND floors.metric = fidelity.metric
    AND floors.stat IS NOT DISTINCT FROM fidelity.stat
"""


def score(database: Path, bootstrap: Bootstrap = Bootstrap(), progress: Progress | None = None) -> dict[str, str]:  # noqa: B008 - frozen
    """Score every simulated run; return why, by run_id, for those that were refused. What was scored before, with the same settings and the
    same code, of runs that are what they were, is kept.

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
    scored = f"{bootstrap} {_code()}"
    with data.open_database(database) as connection:
        refused = {row["simulated_run_id"]: row["refusal"] for row in data.rows(connection, REFUSALS)}
        if data.rows(connection, "SELECT scored FROM plumbline") == [{"scored": scored}]:
            return refused
    with changing(database) as connection:
        connection.execute("SET threads = 1")  # see data.open_database
        runs = data.runs(connection)
        metrics = data.metric_values(connection, list(runs))
        digests = {row["run_id"]: f"{row['digest']} {scored}" for row in data.rows(connection, DIGESTS)}
        groups = _groups(runs, refused, _kept(connection, digests))
        for group, found in _in_parallel(groups, connection, metrics, bootstrap, progress):
            _add(connection, group, found, digests)
        _finish(connection, runs, metrics)
        connection.execute("UPDATE plumbline SET scored = ?", [scored])
    return refused


def _code() -> str:
    """Digest of the code that computes scores: a database scored by other code is scored again.

    Code that draws or words them does not count.
    """
    return hashlib.sha256(b"".join(path.read_bytes() for path in SCORING)).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What need not be computed again. saturations: by run_id. pairs: the simulated runs of them."""

    saturations: Mapping[str, SaturationRow]
    pairs: frozenset[str]


def _kept(connection: duckdb.DuckDBPyConnection, digests: Mapping[str, str]) -> _Kept:
    """Remove the rows of runs and pairs that have changed or were scored otherwise; return what is left."""
    runs, pairs = (data.rows(connection, f"SELECT * FROM {table}") for table in ("scored_runs", "scored_pairs"))
    kept_runs = {row["run_id"] for row in runs if row["digest"] == digests.get(row["run_id"])}
    kept_pairs = {row["simulated_run_id"] for row in pairs if row["digest"] == _of_pair(row, digests)}
    for table, column, left in (
        ("scored_runs", "run_id", kept_runs),
        ("saturation", "run_id", kept_runs),
        ("scored_pairs", "simulated_run_id", kept_pairs),
        ("fidelity", "simulated_run_id", kept_pairs),
        ("fidelity_parts", "simulated_run_id", kept_pairs),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT unnest($left::VARCHAR[]))", {"left": sorted(left)})
    return _Kept(_saturations(connection), frozenset(kept_pairs))


def _of_pair(row: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    return hashlib.sha256(f"{digests.get(row['measured_run_id'])} {digests.get(row['simulated_run_id'])}".encode()).hexdigest()


def _saturations(connection: duckdb.DuckDBPyConnection) -> dict[str, SaturationRow]:
    return {row["run_id"]: SaturationRow(**row) for row in data.rows(connection, "SELECT * FROM saturation")}


def _groups(runs: Mapping[str, RunRow], refused: Mapping[str, str], kept: _Kept) -> list[MeasuredGroup]:
    """Every measured run with those held against it, and every other run by itself, where something is to be computed."""
    members: dict[str, list[RunRow]] = {}
    for run in runs.values():
        measured = runs.get(str(run.measured_run_id)) if run.kind == "simulated" else None
        members.setdefault(measured.run_id if measured else run.run_id, []).append(run)
    groups = []
    for head, group in sorted(members.items()):
        unknown = [run for run in group if run.run_id not in kept.saturations]
        pairs = [run for run in group if run.kind == "simulated" and run.track in data.TRACKS and run.run_id not in refused]
        unscored = [run for run in pairs if run.run_id not in kept.pairs]
        known = {run.run_id: kept.saturations[run.run_id] for run in group if run.run_id in kept.saturations}
        if unknown or unscored:
            groups.append(MeasuredGroup(measured=runs[head], unknown=unknown, known=known, unscored=unscored))
    return groups


def _in_parallel(
    groups: Sequence[MeasuredGroup],
    connection: duckdb.DuckDBPyConnection,
    metrics: Metrics,
    bootstrap: Bootstrap,
    progress: Progress | None,
) -> Iterator[tuple[MeasuredGroup, MeasuredGroupScores]]:
    """The groups with their scores, in their order."""

    def scored(group: MeasuredGroup) -> MeasuredGroupScores:
        with connection.cursor() as cursor:
            return group.scored(cursor, metrics, bootstrap)

    return in_order(scored, groups, progress, weight=lambda group: len(group.unknown) + len(group.unscored))


def _add(connection: duckdb.DuckDBPyConnection, group: MeasuredGroup, found: MeasuredGroupScores, digests: Mapping[str, str]) -> None:
    """Write a group's rows, and that they are there."""
    for table in ("saturation", "fidelity", "fidelity_parts"):
        _append(connection, table, getattr(found, table))
    for run in group.unknown:
        connection.execute("INSERT INTO scored_runs VALUES (?, ?)", [run.run_id, digests[run.run_id]])
    for run in group.unscored:
        pair = {"measured_run_id": group.measured.run_id, "simulated_run_id": run.run_id}
        connection.execute("INSERT INTO scored_pairs VALUES (?, ?, ?)", [*pair.values(), _of_pair(pair, digests)])


def _finish(connection: duckdb.DuckDBPyConnection, runs: Mapping[str, RunRow], metrics: Metrics) -> None:
    """Fill what is over several groups, from all that is known now, and put the rows in order."""
    floors = list(_noise_floors(runs, metrics, _saturations(connection)))
    if floors:
        connection.register("given", pd.DataFrame(floors).astype({"stat": object}))
        connection.execute(NOISE)
        connection.unregister("given")
    for table, rows in (
        ("attribution", list(attributions(runs, StoredRequests(connection), metrics))),
        ("rankings", list(rankings(runs, metrics))),
    ):
        connection.execute(f"DELETE FROM {table}")
        _append(connection, table, rows)
    connection.execute(ORDERED.format(table="saturation", columns="run_id"))
    for table in ("fidelity", "fidelity_parts"):
        connection.execute(ORDERED.format(table=table, columns="measured_run_id, simulated_run_id"))


def _noise_floors(runs: Mapping[str, RunRow], metrics: Metrics, saturations: Mapping[str, SaturationRow]) -> Iterator[Mapping[str, Any]]:
    """The noise floor of each statistic of each measured run, over the valid repeats of its cell; None when it has fewer than two."""
    cells: dict[tuple[str | None, str | None], list[RunRow]] = {}
    for run in runs.values():
        if run.kind == "measured":
            cells.setdefault((run.study, run.cell), []).append(run)
    for cell in cells.values():
        repeats = [run for run in cell if run.valid]
        values = {key: [metrics[run.run_id].get(key) for run in repeats] for key in KEYS}
        values[CAPACITY] = [saturations[run.run_id].capacity for run in repeats]
        floors = {key: relative_spread([v for v in of if v is not None]) for key, of in values.items()}
        for run in cell:
            for (metric, stat), noise in floors.items():
                yield {"measured_run_id": run.run_id, "metric": metric, "stat": stat, "noise": noise}


def _append(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Any]) -> None:
    if rows:
        names = [field.name for field in dataclasses.fields(rows[0])]
        frame = pd.DataFrame({name: pd.Series([getattr(row, name) for row in rows], dtype=object) for name in names})
        connection.register("given", frame)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")
        connection.unregister("given")
