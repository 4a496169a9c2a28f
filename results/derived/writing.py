"""Changing a database file: by one process at a time, whole or not at all, and never under the eyes of who reads it."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from results.storage.durable import sync


@contextmanager
def one_at_a_time(database: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for a database of this folder. Raises OSError."""
    database.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(database.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of the folder: no lock file is left behind, and it ends with the process
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacing(database: Path, *, anew: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a copy of `database` (anew: to an empty one), which takes its place when the block ends well.

    What a writer that died left beside it is not in the copy. Raises OSError, duckdb.Error; the old file is then untouched.
    """
    scratch = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if not anew:
            shutil.copyfile(database, scratch)
        with duckdb.connect(scratch) as connection:
            yield connection
            connection.execute("CHECKPOINT")  # closing would write the rest too, but would not say when it cannot
        sync([scratch])
        wal(database).unlink(missing_ok=True)  # left by a writer that died: it must not be replayed onto the new file
        scratch.replace(database)
        sync([database.parent])
    finally:
        for leftover in (scratch, wal(scratch)):
            leftover.unlink(missing_ok=True)


def wal(database: Path) -> Path:
    """DuckDB's log of what is not in the file yet."""
    return database.with_name(f"{database.name}.wal")
