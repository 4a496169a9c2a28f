"""What the study report reads: the views of results/study.sql and the runs, as frames. Times in seconds. Nothing is scored here."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from analysis import data
from analysis.data import TRACKS, AnalysisError, Key, RunRow

LATENCIES = ("ttft", "tpot", "e2e")
HEADLINES: tuple[Key, ...] = (
    *((metric, stat) for metric in LATENCIES for stat in ("p50", "p99")),
    ("output_throughput", None),
    ("goodput", None),
)
# $1: the study; NULL: all studies. Two studies may have a cell of the same name, so with all studies a cell is called STUDY/CELL.
OF = "($1::VARCHAR IS NULL OR study = $1)"
CELL = "concat_ws('/', nullif(study, $1::VARCHAR), cell) AS cell"
CELLS = f"""
SELECT * REPLACE ({CELL}), (
    SELECT any_value(version) FROM runs WHERE kind = 'measured' AND runs.cell = cells.cell AND runs.study IS NOT DISTINCT FROM cells.study
) AS version
FROM cells WHERE {OF}
ORDER BY system DESC, workload, model, hardware, study NULLS FIRST, rho NULLS LAST, rate, cells.cell
"""
COVERAGE = f"""
SELECT
    system, track, sum(scored)::BIGINT AS scored, sum(failed * requests) / sum(requests) AS failed, sum(refused)::BIGINT AS refused,
    sum(side_known)::BIGINT AS side_known, sum(same_side)::BIGINT AS same_side, sum(seconds) / nullif(sum(wall_s), 0) AS speed
FROM coverage WHERE {OF} GROUP BY system, track
"""
LITTLES_LAW = "SELECT * FROM littles_law WHERE run_id IN (SELECT unnest(?))"

Simulator = tuple[str, str]  # (system, track)
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """One study, read from a scored database; frames and rows have the columns of their views."""

    name: str | None  # of the study; None: all runs
    cells: pd.DataFrame  # in the order in which people read them, `version` added
    scores: pd.DataFrame  # the view cell_fidelity
    knees: pd.DataFrame  # the view of that name
    attribution: pd.DataFrame  # the view cell_attribution
    rankings: Sequence[Row]  # the table of that name
    coverage: Sequence[Row]  # a row per simulator
    littles_law: Mapping[str, Row]  # run_id to its row
    runs: Mapping[str, RunRow]  # measured and simulated, by run_id
    simulators: Sequence[Simulator]  # those held against any of the cells
    closed: frozenset[str]  # the cells in which a request was sent when another ended
    concurrency: Mapping[str, int]  # of these, cell to how many were in flight, where that is known
    same: frozenset[str]  # the cells whose valid repeats, two or more, sent the very same requests: their spread is the engine's own
    chosen: Mapping[str, str]  # cell to the measured run that stands for it where single requests are shown, its first valid repeat

    @property
    def valid_cells(self) -> pd.DataFrame:
        """The cells with a valid run."""
        return self.cells[self.cells["repeats"] > 0]

    def scored(self, key: Key) -> pd.DataFrame:
        """The rows of `scores` of one statistic that have an error."""
        metric, stat = key
        same_stat = self.scores["stat"].isna() if stat is None else self.scores["stat"].eq(stat)
        return self.scores[self.scores["metric"].eq(metric) & same_stat & self.scores["error"].notna()]

    def simulated(self, cell: str) -> list[RunRow]:
        """The runs that simulate the measured run chosen for a cell."""
        chosen = self.chosen.get(cell)
        return [run for run in self.runs.values() if run.measured_run_id == chosen] if chosen else []


def read_study(connection: duckdb.DuckDBPyConnection, database: Path, name: str | None) -> StudyData:
    """Read one study (None: every measured run in the database, the cells of each study apart).

    Raises AnalysisError for a database without a measured run, and for a name that no run has (with those that there are).
    """
    check_name(connection, database, name)
    cells = connection.execute(CELLS, [name]).df()
    if cells.empty:
        raise AnalysisError(f"{database}: it has no measured run; run a study with `make study`, or measure one run with `make bench`")
    runs = _runs(connection, name)
    simulators = {(run.system, str(run.track)) for run in runs.values() if run.kind == "simulated"}
    scores, knees, attribution = (
        connection.execute(f"SELECT * REPLACE ({CELL}) FROM {view} WHERE {OF}", [name]).df()
        for view in ("cell_fidelity", "knees", "cell_attribution")
    )
    return StudyData(
        name=name,
        cells=cells,
        scores=scores[scores["track"].isin(list(TRACKS))],
        knees=knees,
        attribution=attribution.sort_values(["cell", "system", "track", "metric", "position"]),
        rankings=data.rows(connection, f"SELECT * FROM rankings WHERE {OF}", [name]),
        coverage=data.rows(connection, COVERAGE, [name]),
        littles_law={row["run_id"]: row for row in data.rows(connection, LITTLES_LAW, [list(runs)])},
        runs=runs,
        simulators=sorted(simulators, key=lambda one: (one[0], TRACKS.index(one[1]))),
        closed=frozenset(str(run.cell) for run in runs.values() if run.kind == "measured" and loop_of(run) == "closed"),
        concurrency={str(run.cell): int(n) for run in runs.values() if (n := (run.config.get("load") or {}).get("concurrency"))},
        same=_same(runs),
        chosen=_chosen(runs),
    )


def check_name(connection: duckdb.DuckDBPyConnection, database: Path, name: str | None) -> None:
    """Raise AnalysisError for a study that no run belongs to, with those that there are."""
    known = [str(row["study"]) for row in data.rows(connection, "SELECT DISTINCT study FROM runs WHERE study IS NOT NULL ORDER BY study")]
    if name is not None and name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or known
        hint = f"there is {', '.join(near)}" if near else f"it holds no study; run it with `make study study={name}`"
        raise AnalysisError(f"{database}: no study is called {name}; {hint}")


def _runs(connection: duckdb.DuckDBPyConnection, name: str | None) -> dict[str, RunRow]:
    """The runs of the study's cells, without the oracle's.

    A simulated run belongs to the study of its measured run, whatever its own label.
    """
    known = data.runs(connection)
    found = {}
    for run_id, run in known.items():
        measured = known.get(run.measured_run_id or run_id)
        if measured is not None and measured.kind == "measured" and name in (None, measured.study) and run.track in (None, *TRACKS):
            cell = "/".join(part for part in (measured.study if name is None else None, measured.cell) if part is not None)
            found[run_id] = dataclasses.replace(run, cell=cell)
    return found


def _same(runs: Mapping[str, RunRow]) -> frozenset[str]:
    traces: dict[str, list[str]] = {}
    for run in runs.values():
        if run.kind == "measured" and run.valid:
            traces.setdefault(str(run.cell), []).append(run.trace_sha256)
    return frozenset(cell for cell, found in traces.items() if len(found) > 1 == len(set(found)))


def loop_of(run: RunRow) -> str:
    """'open' or 'closed': a recording says it; what is measured here is always an open loop."""
    return str((run.config.get("load") or {}).get("loop") or "open")


def _chosen(runs: Mapping[str, RunRow]) -> dict[str, str]:
    measured = [run for run in runs.values() if run.kind == "measured" and run.valid]
    chosen: dict[str, str] = {}
    for run in sorted(measured, key=lambda run: (run.repeat, run.started_at, run.run_id)):
        chosen.setdefault(str(run.cell), run.run_id)
    return chosen
