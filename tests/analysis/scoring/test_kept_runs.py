"""Runs that an older Plumbline stored are read and scored as that one did.

kept/runs: a vLLM run on a CPU and every simulator on it, stored by `make study study=quick` at commit bc241a9, before the classes had
their folders. kept/scores.json: what that commit's own code made of them.
"""

import json
from pathlib import Path

import pytest

from analysis.scoring.fidelity import score
from results import database

KEPT = Path(__file__).with_name("kept")
LATER = {"ttfo"}  # metrics that there were not then
SCORES = json.loads((KEPT / "scores.json").read_text())


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "plumbline.duckdb"
    database.build([KEPT / "runs"], path)
    assert score(path) == {}
    return path


@pytest.mark.parametrize("table", SCORES)
def test_a_table_is_what_it_was(scored: Path, table: str) -> None:
    names, *rows = SCORES[table]
    with database.connect(scored) as connection:
        rows_now = connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY ALL").fetchall()
    found = [row for row in rows_now if LATER.isdisjoint(row)]
    assert len(found) == len(rows) > 0
    for row, before in zip(found, rows, strict=True):  # another processor may round the last bit of a sum otherwise
        assert list(row) == [pytest.approx(value, rel=1e-12, nan_ok=True) if isinstance(value, float) else value for value in before]
