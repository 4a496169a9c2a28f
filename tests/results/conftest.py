"""A database built from runs, as a user's would be: through run folders on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from results import database
from results.record import Run
from results.storage.store import write_run

Build = Callable[..., duckdb.DuckDBPyConnection]


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Build]:
    """`built(run, ...)` -> a read-only connection to the database of these runs."""
    connections: list[duckdb.DuckDBPyConnection] = []

    def build(*runs: Run) -> duckdb.DuckDBPyConnection:
        root = tmp_path / f"runs{len(connections)}"
        for run in runs:
            write_run(root, run)
        path = tmp_path / f"built{len(connections)}.duckdb"
        assert database.build([root], path) == len(runs)
        connections.append(database.connect(path))
        return connections[-1]

    yield build
    for connection in connections:
        connection.close()
