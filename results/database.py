"""The DuckDB database: derived from the run folders, brought up to date as they come and go, replaced in one step.

The tables are in schema.sql, every metric in metrics.sql (and its kept values in kept.sql), the other tools' definitions in dialects.sql,
a study's views in study.sql; all are executed into the file, so that any DuckDB client sees the same views. Read `build` first.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
from fsspec.implementations.arrow import ArrowFSWrapper

from results.derived.content import tokens_view
from results.derived.earlier import earlier, known_values
from results.derived.folders import folders_in
from results.derived.update import runs_of, update
from results.derived.values import definition
from results.derived.writing import one_at_a_time, replacing
from results.project.progress import Progress
from results.storage.place import SCHEME, Address, Place, PlaceError, storage
from results.storage.run_tables import StoreError, one_line

HERE = Path(__file__).parent
SQL_FILES = tuple(HERE / f"{name}.sql" for name in ("schema", "metrics", "kept", "dialects", "study"))
MADE_BY = (*SQL_FILES, *(HERE / name for name in ("cells.py", "identity.py", "derived/content.py", "derived/update.py")))


class DatabaseError(RuntimeError):
    """A database that cannot be built or opened; the message says which, why, and what to do."""


def build(roots: Sequence[Place], database: Path, progress: Progress | None = None) -> int:
    """Bring `database` up to date with all run folders in `roots` and return the number of runs; a root that does not exist has none.

    Only folders that are new, changed or gone are touched, and metrics are computed of new and changed runs only. Same folders, same
    content. The old file is replaced by a whole new one or stays as it was; processes that build at once do so one after the other.
    Raises DatabaseError naming the first folder that is no whole run, two different runs of one run_id, or a database that another process
    is writing to.
    """
    try:
        with one_at_a_time(database):
            found = folders_in(roots)
            _check_replaceable(database)
            before = earlier(database)
            current = before.schema == _schema()
            if not current or before.folders != [(str(folder.place), folder.state) for folder in found]:
                with replacing(database, anew=not current) as connection:
                    if not current:
                        _make_tables(connection)
                    if any(isinstance(folder.place, Address) for folder in found):
                        _open_storage(connection)
                    update(connection, found, known_values(database), progress)
    except (StoreError, PlaceError) as error:
        raise DatabaseError(str(error)) from error
    except (duckdb.Error, OSError) as error:
        raise DatabaseError(f"{database}: cannot be built ({one_line(error)}); the old one, if any, is untouched") from error
    return len(runs_of(found))


@contextmanager
def changing(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which tables may be filled; the file is replaced by the changed one when the block ends well, else it stays.

    Raises DatabaseError as `connect` does, and when it cannot be written.
    """
    try:
        with one_at_a_time(database):
            connect(database).close()
            with replacing(database, anew=False) as connection:
                if _is_remote(connection):
                    _open_storage(connection)
                yield connection
    except (duckdb.Error, OSError) as error:
        raise DatabaseError(f"{database}: cannot be written ({one_line(error)}); it is untouched") from error


def connect(database: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """Open the database. Raises DatabaseError when it does not exist, is none, another process holds it, or it is of another version."""
    if not database.is_file():
        raise DatabaseError(f"{database}: no such database; build it with `./plumbline database`")
    try:
        connection = duckdb.connect(database, read_only=read_only)
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        if _is_locked(error):
            raise DatabaseError(f"{database}: another process has it open ({one_line(error)}); close that one and try again") from error
        raise DatabaseError(f"{database}: cannot be opened ({one_line(error)}); build it anew with `./plumbline database`") from error
    try:
        made_by = connection.execute("SELECT schema FROM plumbline").fetchone()
    except duckdb.CatalogException:
        made_by = None
    if made_by != (_schema(),):
        connection.close()
        raise DatabaseError(
            f"{database}: made by another version of Plumbline, whose tables and views are others; build it anew from the run folders "
            "with `./plumbline database`"
        )
    if _is_remote(connection):
        _open_storage(connection)
    return connection


def _schema() -> str:
    """Digest of all code that decides what a database holds: a database with another digest may have other columns, views or cells."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in MADE_BY)).hexdigest()[:12]


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(tokens_view({}))
    for path in SQL_FILES:
        connection.execute(path.read_text(encoding="utf-8"))
    connection.execute("INSERT INTO plumbline (schema, metrics) VALUES (?, ?)", [_schema(), definition()])


def _check_replaceable(database: Path) -> None:
    if not database.exists():
        return
    if not database.is_file() or _magic(database) != b"DUCK":
        raise DatabaseError(f"{database}: this is not a DuckDB database, so it is not overwritten; give another path")
    try:
        duckdb.connect(database, read_only=True).close()
    except duckdb.Error as error:  # a damaged database is replaced
        if _is_locked(error):
            raise DatabaseError(f"{database}: another process is writing to it ({one_line(error)}); close it and build again") from error


def _magic(database: Path) -> bytes:
    with database.open("rb") as file:
        return file.read(12)[8:]


def _is_remote(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether some of its runs, and so their token times, are in object storage."""
    return connection.execute("SELECT count(*) FROM folders WHERE starts_with(path, ?)", [SCHEME]).fetchall() != [(0,)]


def _open_storage(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the view `tokens` read the files of runs in object storage."""
    connection.register_filesystem(ArrowFSWrapper(storage()))


def _is_locked(error: duckdb.Error) -> bool:
    return any(words in str(error) for words in ("Conflicting lock", "Could not set lock", "different configuration than existing"))
