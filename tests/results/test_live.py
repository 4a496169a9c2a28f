"""Metrics of requests in memory are those of the same requests in a run folder."""

from pathlib import Path

import pytest

from results import database
from results.live import live_metrics, table
from results.storage.store import write_run
from tests.runs import make_run


@pytest.mark.parametrize("failures", [(), (3, 11)])
def test_in_memory_and_on_disk_agree(tmp_path: Path, failures: tuple[int, ...]) -> None:
    run = make_run(num_requests=60, failures=failures, token_times=False, telemetry=False)
    write_run(tmp_path / "runs", run)
    database.build([tmp_path / "runs"], tmp_path / "x.duckdb")
    with database.connect(tmp_path / "x.duckdb") as connection:
        rows = connection.execute("SELECT metric, stat, value FROM run_metrics").fetchall()
    stored = {(metric, stat): value for metric, stat, value in rows}
    assert live_metrics(table(run.records), slo=run.slo, window=run.window) == stored
    assert stored["ttft", "p99"] is not None and stored["slo_attainment", None] is not None


def test_without_a_window_everything_counts() -> None:
    run = make_run(num_requests=10, telemetry=False)
    whole = live_metrics(table(run.records))
    assert whole["ttft", "mean"] == pytest.approx(sum((r.first_token or 0) - r.arrival for r in run.records) / 10)
