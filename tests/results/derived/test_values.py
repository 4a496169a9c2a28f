"""The metrics of one stored run: those of metrics.sql, however its file is read."""

import math
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from results import database
from results.derived.values import OrderError, gaps_of, values_of
from results.live import live
from results.project.folder import ROOT
from results.record_table import RecordTable
from results.storage.store import read_meta, write_run
from tests.results.conftest import Build
from tests.results.hand import hand_run
from tests.runs import make_run, make_simulated

METRICS = (ROOT / "results" / "metrics.sql").read_text()
DEFINED = METRICS[METRICS.index("CREATE VIEW token_gaps") :].partition(";")[0]
RUNS = {
    "hand": hand_run(),
    "whole": make_run("whole", num_requests=60),
    "failures": make_run("failures", num_requests=60, failures=[0, 7, 8, 59]),
    "no token times": make_run("none", num_requests=20, token_times=False),
    "simulated": make_simulated(make_run("measured")),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_has_the_metrics_of_its_records(tmp_path: Path, name: str) -> None:
    """The SQL of metrics.sql as it stands, over rows in memory, gap by gap with sorting."""
    run = RUNS[name]
    folder = write_run(tmp_path, run)
    requests = pq.read_table(folder / "requests.parquet")
    stored = {row[:2]: row[2] for row in values_of(read_meta(folder), requests, folder / "tokens.parquet")}
    tokens = pq.read_table(folder / "tokens.parquet").drop_columns("run_id")
    with live(requests.drop_columns("run_id"), tokens=tokens, slo=run.slo, window=run.window) as connection:
        connection.execute(DEFINED.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
        plain = {row[:2]: row[2] for row in connection.execute("SELECT metric, stat, value FROM run_metrics").fetchall()}
        gaps = connection.execute("SELECT request_id, itl FROM itl WHERE in_window ORDER BY request_id, token_index").fetchall()
    one, other = stored.pop(("itl", "mean")), plain.pop(("itl", "mean"))  # its summands come in another order
    assert one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=1e-12))
    assert stored == plain
    owners, values = gaps_of(requests, folder / "tokens.parquet", slo=run.slo, window=run.window)
    assert list(zip(owners.tolist(), values.tolist(), strict=True)) == gaps
    assert len(RecordTable.of(run.records)) == len(requests)


def test_a_runs_metrics_do_not_depend_on_the_others_nor_on_threads(built: Build) -> None:
    runs = [make_run(f"run-{seed}", num_requests=50, seed=seed) for seed in range(4)]
    alone = [row for run in runs for row in built(run).execute("SELECT * FROM run_metrics").fetchall()]
    together = built(*runs)
    for threads in (1, 4):
        together.execute(f"SET threads = {threads}")
        assert sorted(together.execute("SELECT * FROM run_metrics").fetchall(), key=str) == sorted(alone, key=str)


def test_token_times_out_of_order_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", make_run("x"))
    file = folder / "tokens.parquet"
    table = pq.read_table(file)
    pq.write_table(table.take(list(reversed(range(len(table))))).cast(table.schema), file, compression="zstd")
    with pytest.raises(OrderError, match="not in the order of requests and tokens"):
        values_of(read_meta(folder), pq.read_table(folder / "requests.parquet"), file)
    with pytest.raises(database.DatabaseError, match=r"x/tokens\.parquet: cannot be read .*not in the order"):
        database.build([tmp_path / "runs"], tmp_path / "x.duckdb")


def test_tokens_and_their_gaps_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the database, from whatever folder, gets the rows of the files."""
    monkeypatch.chdir(tmp_path)
    run = make_run("it's a run", num_requests=30)
    write_run(Path("runs"), run)
    database.build([Path("runs")], Path("x.duckdb"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with duckdb.connect(tmp_path / "x.duckdb", read_only=True) as connection:
        rows = connection.execute("SELECT * FROM tokens").fetchall()
        gaps = connection.execute("SELECT count(*), min(itl) FROM itl").fetchall()
        kinds = [row[:2] for row in connection.execute("DESCRIBE tokens").fetchall()]
    assert rows == [(run.run_id, r.request_id, k, time) for r in run.records for k, time in enumerate(r.token_times or ())]
    assert gaps[0][0] == sum(len(r.token_times or ()) - 1 for r in run.records)
    assert kinds == [("run_id", "VARCHAR"), ("request_id", "BIGINT"), ("token_index", "INTEGER"), ("time", "DOUBLE")]
