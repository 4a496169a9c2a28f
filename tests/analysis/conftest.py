"""A database made from hand-made runs, for the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from results import database
from results.record import Run
from results.store import write_run

MakeDatabase = Callable[..., Path]


@pytest.fixture
def make_database(tmp_path: Path) -> MakeDatabase:
    """Call it with runs; it stores them and returns the path of the database built from them."""

    def make(*runs: Run) -> Path:
        for run in runs:
            write_run(tmp_path / "runs", run)
        database.build([tmp_path / "runs"], tmp_path / "plumbline.duckdb")
        return tmp_path / "plumbline.duckdb"

    return make
