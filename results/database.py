"""The DuckDB database: derived from the run folders, rebuilt whole at any time, replaced in one step.

The tables are in schema.sql, every metric in metrics.sql, the other tools' definitions in dialects.sql, a study's views in study.sql; all
are executed into the file, so that any DuckDB client sees the same views.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from fsspec.implementations.arrow import ArrowFSWrapper

from results.cells import cell_of, configuration_of, study_of
from results.storage.durable import sync
from results.storage.place import Address, Place, PlaceError, storage
from results.storage.run_tables import StoreError, check_files
from results.storage.store import read_meta, run_folders

COMPARED = ("run.json", "requests.parquet", "tokens.parquet")  # what must be equal in a copy of a run
SQL_FILES = tuple(Path(__file__).with_name(name) for name in ("schema.sql", "metrics.sql", "dialects.sql", "study.sql"))
MADE_BY = (*SQL_FILES, *(Path(__file__).with_name(name) for name in ("cells.py", "identity.py")))  # what decides what a database holds


class DatabaseError(RuntimeError):
    """A database that cannot be built or opened; the message says which, why, and what to do."""


def build(roots: Sequence[Place], database: Path) -> int:
    """Build `database` from all run folders in `roots` and return the number of runs; a root that does not exist has none.

    Same folders, same content. The old file is replaced by a whole new one or stays as it was. Raises DatabaseError naming the first
    folder that is no whole run, two different runs of one run_id, or a database that another process is writing to.
    """
    runs = _read_metas(roots)
    _check_replaceable(database)
    database.parent.mkdir(parents=True, exist_ok=True)
    scratch = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with duckdb.connect(scratch) as connection:
            for path in SQL_FILES:
                connection.execute(path.read_text(encoding="utf-8"))
            connection.execute("INSERT INTO plumbline (schema) VALUES (?)", [_schema()])
            if runs:
                _fill(connection, runs)
            connection.execute("CHECKPOINT")  # closing would write the rest too, but would not say when it cannot
        sync([scratch])
        _wal(database).unlink(missing_ok=True)  # left by a writer that died: it must not be replayed onto the new file
        scratch.replace(database)
        sync([database.parent])
    except (duckdb.Error, OSError) as error:
        raise DatabaseError(f"{database}: cannot be built ({_one_line(error)}); the old one, if any, is untouched") from error
    finally:
        for leftover in (scratch, _wal(scratch)):
            leftover.unlink(missing_ok=True)
    return len(runs)


def connect(database: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """Open the database. Raises DatabaseError when it does not exist, is none, another process holds it, or it is of another version."""
    if not database.is_file():
        raise DatabaseError(f"{database}: no such database; build it with `python -m results build` (or `make database`)")
    try:
        connection = duckdb.connect(database, read_only=read_only)
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        if _is_locked(error):
            raise DatabaseError(f"{database}: another process has it open ({_one_line(error)}); close that one and try again") from error
        raise DatabaseError(f"{database}: cannot be opened ({_one_line(error)}); build it anew with `python -m results build`") from error
    try:
        made_by = connection.execute("SELECT schema FROM plumbline").fetchone()
    except duckdb.CatalogException:
        made_by = None
    if made_by != (_schema(),):
        connection.close()
        raise DatabaseError(
            f"{database}: made by another version of Plumbline, whose tables and views are others; build it anew from the run folders "
            "with `python -m results build` (or `make database`)"
        )
    return connection


def _schema() -> str:
    """Digest of all code that decides what a database holds: a database with another digest may have other columns, views or cells."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in MADE_BY)).hexdigest()[:12]


def _read_metas(roots: Sequence[Place]) -> dict[Place, dict[str, Any]]:
    """The checked run.json of every run, by folder, in the order of run_id. Of a run and its copy in a later root the first counts."""
    metas: dict[str, tuple[Place, dict[str, Any]]] = {}
    for folder in _folders(roots):
        try:
            meta = read_meta(folder)
            check_files(folder, meta)
        except (StoreError, PlaceError) as error:
            raise DatabaseError(str(error)) from error
        twin = metas.setdefault(folder.name, (folder, meta))[0]
        if twin != folder and not all((folder / name).read_bytes() == (twin / name).read_bytes() for name in COMPARED):
            raise DatabaseError(f"{folder}: another run of this id is in {twin.parent}; delete one of the two folders")
    return {folder: meta for _, (folder, meta) in sorted(metas.items())}


def _folders(roots: Sequence[Place]) -> list[Place]:
    try:
        return [folder for root in dict.fromkeys(roots) for folder in run_folders(root)]
    except PlaceError as error:
        raise DatabaseError(str(error)) from error


def _check_replaceable(database: Path) -> None:
    if not database.exists():
        return
    if not database.is_file() or database.read_bytes()[8:12] != b"DUCK":
        raise DatabaseError(f"{database}: this is not a DuckDB database, so it is not overwritten; give another path")
    try:
        duckdb.connect(database, read_only=True).close()
    except duckdb.Error as error:  # a damaged database is replaced
        if _is_locked(error):
            raise DatabaseError(f"{database}: another process is writing to it ({_one_line(error)}); close it and build again") from error


def _fill(connection: duckdb.DuckDBPyConnection, runs: Mapping[Place, Mapping[str, Any]]) -> None:
    if any(isinstance(folder, Address) for folder in runs):
        connection.register_filesystem(ArrowFSWrapper(storage()))
    measured = [meta for meta in runs.values() if meta["kind"] == "measured"]
    known = {str(meta["run_id"]): {"cell": cell_of(meta), "configuration": configuration_of(meta)} for meta in measured}
    rows = pa.Table.from_pylist([_run_row(folder, meta, known) for folder, meta in runs.items()])
    connection.register("run_rows", rows)
    connection.execute("INSERT INTO runs BY NAME SELECT * FROM run_rows")
    connection.unregister("run_rows")
    for table in ("requests", "tokens", "telemetry"):
        files = [str(folder / f"{table}.parquet") for folder, meta in runs.items() if table in meta["rows"]]
        if files:  # rows keep the order of the files and, in each, of its rows
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?)", [files])
    traces = {meta["trace_sha256"]: str(folder / "trace.parquet") for folder, meta in runs.items()}
    connection.execute(
        "INSERT INTO trace_requests "
        "SELECT trace_sha256, request_id, arrival, input_tokens, output_tokens, len(blocks) FROM read_parquet(?, filename = true) "
        "JOIN (SELECT unnest(?) AS trace_sha256, unnest(?) AS filename) USING (filename) ORDER BY trace_sha256, arrival, request_id",
        [list(traces.values()), list(traces.keys()), list(traces.values())],
    )


def _run_row(folder: Place, meta: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """known: cell and configuration of each measured run; the runs that simulate it have the same."""
    fields = {k: v for k, v in meta.items() if k not in ("limits", "slo", "window", "rows", "schema_version", "config", "provenance")}
    window = meta["window"] or (None, None)
    return {
        **fields,
        **meta["limits"],
        **{f"slo_{name}": limit for name, limit in meta["slo"].items()},
        "study": study_of(meta),
        **known.get(meta["run_id"] if meta["kind"] == "measured" else str(meta["measured_run_id"]), {"cell": None, "configuration": None}),
        "started_at": _utc(folder, meta["started_at"]),
        "window_start": window[0],
        "window_end": window[1],
        "config": json.dumps(_strict(meta["config"])),
        "provenance": json.dumps(_strict(meta["provenance"])),
        "path": str(folder),
    }


def _utc(folder: Place, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DatabaseError(f"{folder}/run.json: started_at must be an ISO 8601 time, got {text!r}; correct it") from error
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _strict(value: Any) -> Any:
    """The value, with infinite and undefined numbers as strings: DuckDB takes strict JSON only, which has no such numbers."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def _wal(database: Path) -> Path:
    return database.with_name(f"{database.name}.wal")


def _is_locked(error: duckdb.Error) -> bool:
    return any(words in str(error) for words in ("Conflicting lock", "Could not set lock", "different configuration than existing"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
