"""Money by the token in the table and on the page: the measured run's beside the simulators', where a price is known."""

import csv
import dataclasses
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.data import compare
from results.database import connect
from results.record import Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated

COST = "Cost per million output tokens (USD)"


def pair(price: float | None) -> tuple[Run, Run]:
    run = make_run(num_requests=40)
    run = dataclasses.replace(run, config={**run.config, "hardware": {**run.config["hardware"], "price_per_hour": price}})
    return run, make_simulated(run, scale=1.5)


def test_the_table_has_them_below_the_metrics_and_the_page_by_run(
    make_database: MakeDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = make_database(*pair(2.5))
    main(["table", "--format", "csv", "--database", str(database)])
    [row] = [row for row in csv.DictReader(capsys.readouterr().out.splitlines()) if row["metric"] == COST]
    with connect(database) as connection:
        found = connection.execute("SELECT kind, cost_per_million_output_tokens FROM run_cost JOIN runs USING (run_id)").fetchall()
    usd = dict(found)
    assert float(row["measured"]) == pytest.approx(usd["measured"]) and float(row["vidur:calibrated"]) == pytest.approx(usd["simulated"])
    assert float(row["vidur:calibrated error %"]) == pytest.approx(100 * (usd["simulated"] / usd["measured"] - 1))
    main(["report", "--out", str(tmp_path / "page.html"), "--database", str(database)])
    assert (tmp_path / "page.html").read_text().count("cost per million output tokens (USD)") == 2


def test_without_a_price_there_is_no_such_row(make_database: MakeDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    database = make_database(*pair(None))
    main(["table", "--format", "csv", "--database", str(database)])
    assert "Cost" not in capsys.readouterr().out and all(not costs for costs in compare(database).costs.values())
