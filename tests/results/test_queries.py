"""Every query that docs/queries.md gives runs, on a database with and without runs."""

import re
from pathlib import Path

import pytest

from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from results import database
from results.project.folder import ROOT
from results.storage.store import write_run
from tests.runs import make_pair

DOCS = ROOT / "docs" / "queries.md"


@pytest.mark.parametrize("full", [False, True])
def test_the_documented_queries_run(tmp_path: Path, full: bool) -> None:
    for run in make_pair() if full else ():
        write_run(tmp_path / "runs", run)
    path = tmp_path / "plumbline.duckdb"
    database.build([tmp_path / "runs"], path)
    if full:
        score(path, Bootstrap(resamples=100))
    queries = re.findall(r"`(select [^`]+;)`", DOCS.read_text())
    assert len(queries) >= 15
    with database.connect(path) as connection:
        answers = [len(connection.execute(query).fetchall()) for query in queries]
    assert any(answers) == full
