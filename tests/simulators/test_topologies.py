"""A simulator with prefill and decode apart stands beside the same one colocated: in the run folders, the database and the report."""

from pathlib import Path

import duckdb
import pytest

from analysis import names
from analysis.report import Report
from analysis.stats import Bootstrap
from results import database
from results.storage.store import write_run
from tests.runs import make_run, make_simulated
from tests.simulators.foreign.copies import configured


@pytest.mark.parametrize("name", ["splitwise_sim", "distserve_sim", "aisimulate", "native"])
def test_both_topologies_are_told_apart_everywhere(name: str, tmp_path: Path) -> None:
    apart = {"arrangement": {"kind": "distserve", "instances": 2}} if name == "native" else {"topology": "pd"}
    systems = [configured(name, **changes).system for changes in ({}, apart)]
    assert systems == [name, f"{name}_pd"]
    measured = make_run()
    write_run(tmp_path / "runs", measured)
    for scale, system in zip((1.1, 1.5), systems, strict=True):
        write_run(tmp_path / "runs", make_simulated(measured, system=system, scale=scale), replace=True)
    database.build([tmp_path / "runs"], tmp_path / "db")
    report = Report(
        database=str(tmp_path / "db"), out=str(tmp_path / "report.html"), bootstrap=Bootstrap(resamples=100, confidence=0.95, seed=0)
    )
    summary = report.write(measured.run_id)
    with duckdb.connect(str(tmp_path / "db"), read_only=True) as db:
        found = db.execute("select system, error from fidelity where metric = 'ttft' and stat = 'p50' order by 1").fetchall()
    errors = dict(found)
    assert list(errors) == systems
    assert errors[systems[1]] > errors[systems[0]] + 0.2
    assert {f"{system}:calibrated" for system in systems} <= set(summary.table.iloc[:, 0])
    page = (tmp_path / "report.html").read_text()
    assert names.system(systems[0]) in page and f"{names.system(systems[0])} P/D" in page
