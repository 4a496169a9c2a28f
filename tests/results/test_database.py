"""The database: derived from the folders, the same for the same folders, whole or not at all; its errors are one line."""

import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from results import database
from results.database import DatabaseError
from results.record import SLO, Run
from results.record_table import COLUMNS
from results.storage.store import run_folders, write_run
from tests.results.conftest import Build
from tests.runs import make_pair, make_run, make_simulated, make_trace

TABLES = ("runs", "requests", "tokens", "telemetry", "trace_requests", "fidelity")


def dump(path: Path) -> dict[str, list[Any]]:
    with database.connect(path) as connection:
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def test_a_simulated_run_has_the_study_and_the_cell_of_its_measured_run_and_repeats_share_theirs(built: Build) -> None:
    labelled = make_run("labelled", seed=3)
    labelled = dataclasses.replace(labelled, config={**labelled.config, "study": {"name": "quick", "cell": "0123456789ab", "point": "x"}})
    trace = make_run().trace
    plain = [make_run(f"plain-{i}", trace=trace, repeat=i) for i in range(2)]
    other = dataclasses.replace(make_run("other", trace=trace), limits=dataclasses.replace(plain[0].limits, max_num_seqs=7))
    orphan = dataclasses.replace(make_simulated(plain[0]), run_id="orphan", measured_run_id="gone")
    runs = (labelled, make_simulated(labelled), *plain, make_simulated(plain[1]), other, orphan)
    found = {run_id: (study, cell) for run_id, study, cell in built(*runs).execute("SELECT run_id, study, cell FROM runs").fetchall()}
    assert found["labelled"] == found["labelled--vidur-calibrated"] == ("quick", "0123456789ab")
    assert found["plain-0"] == found["plain-1"] == found["plain-1--vidur-calibrated"]
    assert found["plain-0"][0] is None
    assert len(found["plain-0"][1]) == 12
    assert len({found[run_id][1] for run_id in ("labelled", "plain-0", "other")}) == 3
    assert found["orphan"] == (None, None)


def configured(run_id: str, engine: Mapping[str, object], slo: SLO = SLO()) -> Run:  # noqa: B008 (frozen)
    """A measured run of one trace at one load, its engine's configuration with these settings."""
    run = make_run(run_id, trace=make_trace(), slo=slo)
    return dataclasses.replace(run, config={**run.config, "engine": {**run.config["engine"], **engine}})


def test_runs_of_different_settings_are_no_repeats_wherever_the_settings_are(built: Build) -> None:
    here = {"dtype": "auto", "port": None, "env": {"PYTHONPATH": "/here"}, "prefill": {"port": 1}, "details": {"core_pids": [7]}}
    there = {"dtype": "auto", "port": 8000, "env": {"PYTHONPATH": "/there"}, "prefill": {"port": 2}, "details": {"core_pids": [9]}}
    other = {
        "fp8": configured("fp8", {**here, "extra_args": ["--kv-cache-dtype=fp8"]}),
        "kv": configured("kv", {**here, "kv_cache_gib": 0.05}),
        "pd": configured("pd", {**here, "prefill": {"max_num_seqs": 2}}),
        "slo": configured("slo", here, SLO(ttft=0.1)),
    }
    runs = (configured("here", here), configured("there", there), *other.values())
    told = built(*runs).execute("SELECT run_id, cell, configuration FROM runs").fetchall()
    cells, configurations = ({run_id: row[i] for run_id, *row in told} for i in (0, 1))
    assert cells["here"] == cells["there"]
    assert len({cells[name] for name in ("here", *other)}) == 5
    assert configurations["here"] == configurations["there"] == configurations["slo"]  # asked of the same engine
    assert len({configurations[name] for name in ("here", "fp8", "kv", "pd")}) == 4


def test_a_database_of_another_version_is_refused_in_one_line_and_built_anew(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.duckdb"
    for older in ("CREATE TABLE runs (run_id VARCHAR)", "CREATE TABLE plumbline (schema VARCHAR); INSERT INTO plumbline VALUES ('0')"):
        with duckdb.connect(path) as connection:
            connection.execute(older)
        with pytest.raises(DatabaseError, match=r"x\.duckdb: made by another version of Plumbline.*./plumbline database") as caught:
            database.connect(path)
        assert "\n" not in str(caught.value)
        assert database.build([root], path) == 4
        database.connect(path).close()
        path.unlink()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for run in (*make_pair(), make_run("another", seed=4, failures=[1]), make_run("zebra", repeat=1, telemetry=False)):
        write_run(folder, run)
    return folder


def test_rows_are_the_folders_rows_in_a_stable_order(tmp_path: Path, root: Path) -> None:
    assert database.build([root], tmp_path / "x.duckdb") == 4
    tables = dump(tmp_path / "x.duckdb")
    ids = ["another", "vllm-handmade-0", "vllm-handmade-0--vidur-calibrated", "zebra"]
    assert [row[0] for row in tables["runs"]] == ids
    runs = {"another": make_run("another", seed=4, failures=[1]), "zebra": make_run("zebra", repeat=1, telemetry=False)}
    measured, simulated = make_pair()
    runs |= {measured.run_id: measured, simulated.run_id: simulated}
    fields = [name for name in COLUMNS.names if name != "request_id"]
    assert [row[:-1] for row in tables["requests"]] == [
        (i, r.request_id, *(getattr(r, f) for f in fields)) for i in ids for r in runs[i].records
    ]
    assert tables["tokens"] == [
        (i, r.request_id, k, time) for i in ids for r in runs[i].records for k, time in enumerate(r.token_times or ())
    ]
    assert {row[0] for row in tables["telemetry"]} == {"another", "vllm-handmade-0"}
    assert len(tables["trace_requests"]) == 80  # two traces, each once
    assert tables["fidelity"] == []


def test_what_a_run_says_of_itself_is_a_column(built: Build) -> None:
    run = dataclasses.replace(
        make_run(), rate=float("inf"), config={"load": {"rate": float("inf")}, "seed": 7}, valid=False, invalid_reason="errors 3 %"
    )
    rows = built(run).execute("SELECT * FROM runs")
    row = dict(zip([column[0] for column in rows.description], rows.fetchall()[0], strict=True))
    for name in (
        "run_id",
        "kind",
        "system",
        "version",
        "track",
        "measured_run_id",
        "workload",
        "model",
        "hardware",
        "rho",
        "rate",
        "repeat",
    ):
        assert row[name] == getattr(run, name), name
    assert row["trace_sha256"] == run.trace.sha256
    assert (row["valid"], row["invalid_reason"], row["wall_s"]) == (False, "errors 3 %", run.wall_s)
    assert (row["window_start"], row["window_end"]) == run.window
    assert (row["slo_ttft"], row["slo_tpot"], row["slo_e2e"]) == (run.slo.ttft, run.slo.tpot, run.slo.e2e)
    assert {name: row[name] for name in dataclasses.asdict(run.limits)} == dataclasses.asdict(run.limits)
    assert row["started_at"].isoformat() == "2026-01-02T03:04:00"
    assert json.loads(row["config"]) == {"load": {"rate": "Infinity"}, "seed": 7}
    assert json.loads(row["provenance"]) == run.provenance
    assert Path(row["path"]).name == run.run_id


def test_same_folders_same_content_and_scores_of_runs_that_nobody_touched_stay(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.duckdb"
    database.build([root], path)
    before = dump(path)
    with database.changing(path) as connection:
        connection.execute(
            "INSERT INTO fidelity (measured_run_id, simulated_run_id, system, track, metric) "
            "VALUES ('vllm-handmade-0', 'vllm-handmade-0--vidur-calibrated', 'vidur', 'calibrated', 'ttft')"
        )
    scored = path.read_bytes()
    database.build([root], path)
    assert path.read_bytes() == scored
    shutil.rmtree(root / "vllm-handmade-0--vidur-calibrated")
    write_run(root, make_pair()[1])
    database.build([root], path)
    assert {table: sorted(rows, key=str) for table, rows in dump(path).items()} == {t: sorted(rows, key=str) for t, rows in before.items()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs", "x.duckdb"]


def test_the_old_file_is_replaced_and_not_written_into(tmp_path: Path, root: Path) -> None:
    """Who reads the old database while a new one is built keeps reading the old one, whole."""
    path, kept = tmp_path / "x.duckdb", tmp_path / "kept.duckdb"
    database.build([root], path)
    before = path.read_bytes()
    kept.hardlink_to(path)
    write_run(root, make_run("later", seed=8))
    database.build([root], path)
    assert kept.read_bytes() == before
    assert len(dump(path)["runs"]) == 5


def test_no_runs_make_an_empty_database(tmp_path: Path) -> None:
    assert database.build([tmp_path / "nowhere"], tmp_path / "deep" / "x.duckdb") == 0
    with database.connect(tmp_path / "deep" / "x.duckdb") as connection:
        for view in (*TABLES, "run_metrics", "request_metrics", "itl", "request_fluidity", "dialect_metrics"):
            assert connection.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]


def test_roots_add_up_and_a_copy_counts_once(tmp_path: Path, root: Path) -> None:
    other = tmp_path / "measured"
    write_run(other, make_run("elsewhere"))
    shutil.copytree(root / "zebra", other / "zebra")
    assert database.build([root, other, root], tmp_path / "x.duckdb") == 5
    shutil.rmtree(other / "zebra")
    write_run(other, make_run("zebra", seed=9))
    with pytest.raises(DatabaseError, match=r"measured/zebra: another run of this id is in .*runs; delete one"):
        database.build([root, other], tmp_path / "x.duckdb")


def test_a_damaged_run_is_named_and_the_old_database_stays(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.duckdb"
    database.build([root], path)
    before = path.read_bytes()
    whole = (root / "zebra" / "tokens.parquet").read_bytes()
    (root / "zebra" / "tokens.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatabaseError) as caught:
        database.build([root], path)
    assert "zebra/tokens.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)
    torn = bytearray(whole)
    torn[60:200] = bytes(140)  # a page; the footer is sound
    (root / "zebra" / "tokens.parquet").write_bytes(torn)
    with pytest.raises(DatabaseError, match=r"zebra/tokens\.parquet"):
        database.build([root], path)
    (root / "zebra" / "tokens.parquet").write_bytes(whole)
    trace = (root / "another" / "trace.parquet").rename(tmp_path / "runs" / "another" / "kept")
    with pytest.raises(DatabaseError, match=r"another/trace\.parquet"):
        database.build([root], path)
    trace.rename(root / "another" / "trace.parquet")
    (root / "zebra" / "run.json").unlink()
    with pytest.raises(DatabaseError, match=r"zebra: no run\.json"):
        database.build([root], path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs", "x.duckdb"]


def test_a_file_that_is_no_database_is_not_overwritten(tmp_path: Path, root: Path) -> None:
    (tmp_path / "notes.md").write_text("# notes, far longer than a header\n")
    with pytest.raises(DatabaseError, match="not a DuckDB database"):
        database.build([root], tmp_path / "notes.md")
    assert (tmp_path / "notes.md").read_text().startswith("# notes")
    with pytest.raises(DatabaseError, match=r"notes\.md: cannot be opened"):
        database.connect(tmp_path / "notes.md")
    with pytest.raises(DatabaseError, match=r"none\.duckdb: no such database; build it with"):
        database.connect(tmp_path / "none.duckdb")


@contextmanager
def held_by_another_process(path: Path) -> Iterator[None]:
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


def test_a_database_that_is_being_written_is_left_alone(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.duckdb"
    database.build([root], path)
    before = path.read_bytes()
    with held_by_another_process(path):
        for attempt in (lambda: database.build([root], path), lambda: database.connect(path)):
            with pytest.raises(DatabaseError, match="another process") as caught:
                attempt()
            assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert database.build([root], path) == 4


def test_a_dead_writers_log_is_not_replayed_onto_a_new_database(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.duckdb"
    database.build([root], path)
    program = """
        import os, duckdb, sys
        connection = duckdb.connect(sys.argv[1])
        connection.execute("DELETE FROM runs")
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(path)], check=True)
    assert path.with_name("x.duckdb.wal").exists()
    database.build([root], path)
    assert len(dump(path)["runs"]) == 4


@pytest.mark.parametrize("limit", [4096, 300_000, 700_000, 1_000_000])
def test_a_full_disk_leaves_the_old_database(tmp_path: Path, limit: int) -> None:
    """Writes beyond `limit` bytes per file fail in the kernel, at the first page, amid the rows, or at the last checkpoint."""
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    write_run(root, make_run("first"))
    database.build([root], path)
    before = path.read_bytes()
    write_run(root, make_run("long", num_requests=300))
    program = f"""
        import resource, sys
        from pathlib import Path
        from results import database
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            database.build([Path(sys.argv[1])], Path(sys.argv[2]))
        except database.DatabaseError as error:
            sys.exit(str(error))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(root), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be built" in done.stderr
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs", "x.duckdb"]
    assert len(run_folders(root)) == 2
