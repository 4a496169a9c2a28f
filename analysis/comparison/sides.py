"""What is on either side of a comparison: a stored run, a study, a run's folder, or a folder of runs. Read `opened` first."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import duckdb

from analysis import data
from analysis.comparison.git_states import PREFIX, runs_of
from analysis.data import AnalysisError, Key, RunRow, open_database
from results import database
from results.cells import cell_of, study_of
from results.project.caller import given
from results.storage.place import Address, Place, place
from results.storage.run_tables import StoreError
from results.storage.store import read_meta, run_folders

COSTS = """
SELECT run_id, cost_per_million_output_tokens AS usd FROM run_cost WHERE usd IS NOT NULL AND run_id IN (SELECT unnest($1::VARCHAR[]))
"""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The runs of one cell on one side. runs: those that are compared; valid: all valid repeats of the cell, whose spread is its noise."""

    runs: Sequence[RunRow]
    valid: Sequence[RunRow]

    @property
    def is_simulated(self) -> bool:
        """Whether they are a simulator's, which says the same each time."""
        return self.runs[0].kind == "simulated"

    def is_same_as(self, other: "Repeats") -> bool:
        """Whether it is the very same runs, wherever they lie."""
        return _known_by(self.runs) == _known_by(other.runs)

    def shares_repeats_with(self, other: "Repeats") -> bool:
        """Whether both have their noise from the same runs: two repeats of one cell have."""
        return _known_by(self.valid) == _known_by(other.valid)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side. values: run_id to what the view run_metrics says. costs: run_id to USD for a million output tokens,
    where known. left_out: why runs of it do not count, a line each.
    """

    name: str
    connection: duckdb.DuckDBPyConnection
    cells: Sequence[Repeats]
    values: Mapping[str, Mapping[Key, float | None]]
    costs: Mapping[str, float] = field(default_factory=dict)
    left_out: Sequence[str] = field(default=())


@contextmanager
def opened(name: str, stored: Path, checkout: Path | None = None) -> Iterator[Side]:
    """The side that a word of the command line means: git:REF, a folder (or an address) if there is one, else a run or a study of `stored`.

    checkout: of the engine, for git:REF.

    Raises AnalysisError for a name that nothing has and for a side without a valid run, DatabaseError for what cannot be read.
    """
    if name.startswith(PREFIX):
        with open_database(stored) as connection:
            mine, left_out = runs_of(name, data.runs(connection).values(), checkout)
            yield _of_all(name, connection, mine, left_out)
        return
    where = place(given(name))
    if isinstance(where, Path) and not where.is_dir():
        with open_database(stored) as connection:
            yield _named(name, stored, connection)
        return
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        made, is_run = Path(scratch) / "runs.duckdb", (where / "run.json").is_file()
        root = _with_repeats(where, Path(scratch) / "runs") if is_run else where
        if not database.build([root], made):
            raise AnalysisError(f"{name}: no run folder is in it; give a run, a study, or a folder that holds run folders")
        with open_database(made) as connection:
            runs = data.runs(connection)
            yield _of_run(name, connection, runs[where.name], runs) if is_run else _of_all(name, connection, runs.values())


def _with_repeats(folder: Place, links: Path) -> Place:
    """A folder in which a run lies with the repeats of its cell alone. In object storage it is all that lies beside the run."""
    if isinstance(folder, Address):
        return folder.parent
    links.mkdir()
    mine = read_meta(folder)
    for other in run_folders(folder.resolve().parent):
        try:
            meta = mine if other.name == folder.name else read_meta(other)
        except StoreError:  # a neighbour that is no whole run is not asked for
            continue
        if meta is mine or (meta["kind"] == mine["kind"] == "measured" and _cell(meta) == _cell(mine)):
            (links / other.name).symlink_to(other)
    return links


def _cell(meta: Mapping[str, object]) -> tuple[str | None, str]:
    return study_of(meta), cell_of(meta)


def _named(name: str, stored: Path, connection: duckdb.DuckDBPyConnection) -> Side:
    runs = data.runs(connection)
    if name in runs:
        return _of_run(name, connection, runs[name], runs)
    mine = [run for run in runs.values() if run.study == name]
    if mine:
        return _of_all(name, connection, mine)
    known = sorted({*runs, *(run.study for run in runs.values() if run.study is not None)})
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "./plumbline list shows the runs"
    raise AnalysisError(f"{name}: neither a folder, nor a run or a study of {stored}; {hint}")


def _of_run(name: str, connection: duckdb.DuckDBPyConnection, run: RunRow, runs: Mapping[str, RunRow]) -> Side:
    if not run.valid:
        raise AnalysisError(f"{run.run_id} is INVALID ({run.invalid_reason}): nothing is compared with it; measure it again")
    repeats = [other for other in runs.values() if other.kind == "measured" and _same_cell(other, run) and other.valid]
    return _side(name, connection, [Repeats(runs=[run], valid=repeats if run.kind == "measured" else [run])])


def _of_all(name: str, connection: duckdb.DuckDBPyConnection, runs: Iterable[RunRow], lines: Sequence[str] = ()) -> Side:
    """The side of all these runs. lines: why others are left out."""
    cells: dict[tuple[str | None, str | None], list[RunRow]] = {}
    left_out = list(lines)
    for run in runs:
        if run.kind == "measured" and run.valid:
            cells.setdefault((run.study, run.cell), []).append(run)
        elif run.kind == "measured":
            left_out.append(f"{run.run_id} is INVALID ({run.invalid_reason}): left out")
    if not cells:
        raise AnalysisError(f"{name}: it has no valid measured run{f'; {left_out[0]}' if left_out else ''}; measure one, or name a run")
    return _side(name, connection, [Repeats(runs=found, valid=found) for found in cells.values()], left_out)


def _side(name: str, connection: duckdb.DuckDBPyConnection, cells: Sequence[Repeats], left_out: Sequence[str] = ()) -> Side:
    ids = sorted({run.run_id for cell in cells for run in (*cell.runs, *cell.valid)})
    costs = {row["run_id"]: row["usd"] for row in data.rows(connection, COSTS, [ids])}
    return Side(name=name, connection=connection, cells=cells, values=data.metric_values(connection, ids), costs=costs, left_out=left_out)


def _known_by(runs: Sequence[RunRow]) -> set[tuple[str, object]]:
    return {(run.run_id, run.started_at) for run in runs}


def _same_cell(one: RunRow, other: RunRow) -> bool:
    return (one.study, one.cell) == (other.study, other.cell)
