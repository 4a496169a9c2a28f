"""What the study report reads: the views of results/study.sql and the runs, as frames. Times in seconds. Nothing is scored here."""

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
# Frames of a study by the view or table that they come from. ids: the study's cells.
OF_CELLS = ("cell_fidelity", "knees", "cell_attribution")
CELLS = """
SELECT cells.*, any_value(runs.version) AS version
FROM cells JOIN runs ON runs.cell = cells.cell AND runs.study IS NOT DISTINCT FROM cells.study AND runs.kind = 'measured'
WHERE ?::VARCHAR IS NULL OR cells.study = ?
GROUP BY ALL
ORDER BY cells.system DESC, cells.workload, cells.model, cells.hardware, cells.rho NULLS LAST, cells.rate, cells.cell
"""
LITTLES_LAW = "SELECT * FROM littles_law WHERE run_id IN (SELECT unnest(?))"

Simulator = tuple[str, str]  # (system, track)
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study, read from a scored database; frames and rows have the columns of their views.

    cells: in the order in which people read them, `version` added. scores: cell_fidelity. runs: measured and simulated, by id.
    littles_law: by run. simulators: those held against any of the cells. chosen: cell to the measured run that stands for it where single
    requests are shown, its first valid repeat.
    """

    name: str | None
    cells: pd.DataFrame
    scores: pd.DataFrame
    knees: pd.DataFrame
    attribution: pd.DataFrame
    rankings: Sequence[Row]
    coverage: Sequence[Row]
    littles_law: Mapping[str, Row]
    runs: Mapping[str, RunRow]
    simulators: Sequence[Simulator]
    chosen: Mapping[str, str]

    @property
    def valid_cells(self) -> pd.DataFrame:
        """The cells with a valid run."""
        return self.cells[self.cells["repeats"] > 0]

    def simulated(self, cell: str) -> list[RunRow]:
        """The simulated runs held against the measured run that stands for a cell."""
        chosen = self.chosen.get(cell)
        return [run for run in self.runs.values() if run.measured_run_id == chosen] if chosen else []


def read_study(connection: duckdb.DuckDBPyConnection, database: Path, name: str | None) -> Study:
    """Read one study (None: every measured run in the database, whichever study it belongs to).

    Raises AnalysisError for a database without a measured run, and for a name that no run has (with those that there are).
    """
    check_name(connection, database, name)
    cells = connection.execute(CELLS, [name, name]).df()
    if cells.empty:
        raise AnalysisError(f"{database}: it has no measured run; run a study with `make study`, or measure one run with `make bench`")
    ids = cells["cell"].tolist()
    runs = {run_id: run for run_id, run in data.runs(connection).items() if run.cell in ids and run.track in (None, *TRACKS)}
    simulators = {(run.system, str(run.track)) for run in runs.values() if run.kind == "simulated"}
    frames = {view: connection.execute(f"SELECT * FROM {view} WHERE cell IN (SELECT unnest(?))", [ids]).df() for view in OF_CELLS}
    scores = frames["cell_fidelity"]
    return Study(
        name=name,
        cells=cells,
        scores=scores[scores["track"].isin(list(TRACKS))],
        knees=frames["knees"],
        attribution=frames["cell_attribution"].sort_values(["cell", "system", "track", "metric", "position"]),
        rankings=data.rows(connection, "SELECT * FROM rankings WHERE ?::VARCHAR IS NULL OR study = ?", [name, name]),
        coverage=data.rows(connection, "SELECT * FROM coverage WHERE ?::VARCHAR IS NULL OR study = ?", [name, name]),
        littles_law={row["run_id"]: row for row in data.rows(connection, LITTLES_LAW, [list(runs)])},
        runs=runs,
        simulators=sorted(simulators, key=lambda one: (one[0], TRACKS.index(one[1]))),
        chosen=_chosen(runs),
    )


def check_name(connection: duckdb.DuckDBPyConnection, database: Path, name: str | None) -> None:
    """Raise AnalysisError for a study that no run belongs to, with those that there are."""
    known = [str(row["study"]) for row in data.rows(connection, "SELECT DISTINCT study FROM runs WHERE study IS NOT NULL ORDER BY study")]
    if name is not None and name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or known
        hint = f"there is {', '.join(near)}" if near else f"it holds no study; run it with `make study study={name}`"
        raise AnalysisError(f"{database}: no study is called {name}; {hint}")


def _chosen(runs: Mapping[str, RunRow]) -> dict[str, str]:
    measured = [run for run in runs.values() if run.kind == "measured" and run.valid]
    chosen: dict[str, str] = {}
    for run in sorted(measured, key=lambda run: (run.repeat, run.started_at, run.run_id)):
        chosen.setdefault(str(run.cell), run.run_id)
    return chosen
