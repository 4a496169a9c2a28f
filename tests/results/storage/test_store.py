"""A run folder: what went in comes out, it appears whole or not at all, and damage is named in one line."""

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from results import database
from results.record import SLO, EngineLimits, RequestRecord, Run
from results.record_table import LATER
from results.storage.run_tables import StoreError
from results.storage.store import read_run, remove_simulated, run_folders, write_run
from tests.runs import make_pair, make_run
from workloads.trace import Request, Trace


def assert_same(left: Run, right: Run) -> None:
    assert dataclasses.replace(left, telemetry=None) == dataclasses.replace(right, telemetry=None)
    assert (left.telemetry is None) == (right.telemetry is None)
    if left.telemetry is not None and right.telemetry is not None:
        pd.testing.assert_frame_equal(left.telemetry, right.telemetry, check_dtype=False)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for run in (*make_pair(), make_run("no-telemetry", telemetry=False, failures=[3, 5])):
        assert_same(read_run(write_run(tmp_path, run)), run)


def test_unknown_is_not_empty(tmp_path: Path) -> None:
    """None, () and a value are three different things, in every column; every request may be unknown in all."""
    requests = tuple(Request(request_id=i, arrival=0.5 * k, input_tokens=3, output_tokens=2) for k, i in enumerate((4, 2, 9)))
    records = (
        RequestRecord(request_id=4, arrival=0.0, token_times=None, error="lost"),
        RequestRecord(request_id=2, arrival=0.5, token_times=(), cached_tokens=0),
        RequestRecord(request_id=9, arrival=1.0, first_token=0.0, token_times=(1.5, 1.5)),
    )
    run = dataclasses.replace(
        make_run(telemetry=False),
        run_id="unknowns",
        version=None,
        trace=Trace(name="α β", requests=requests),
        records=records,
        limits=EngineLimits(),
        slo=SLO(),
        rho=None,
        rate=float("inf"),
        window=None,
        valid=False,
        invalid_reason="dispatch lag p99 2.5 ms; errors 33 %",
        config={},
    )
    assert_same(read_run(write_run(tmp_path, run)), run)
    only = dataclasses.replace(run, run_id="all-unknown", trace=Trace(name="x", requests=requests[:1]), records=records[:1])
    assert_same(read_run(write_run(tmp_path, only)), only)


def test_what_reasoning_and_adapters_add_is_read_back_and_unknown_of_runs_of_before(tmp_path: Path) -> None:
    run = make_run()
    told = dataclasses.replace(run.records[0], first_output_token=2.5, adapter="sql")
    folder = write_run(tmp_path, dataclasses.replace(run, records=(told, *run.records[1:])))
    assert read_run(folder).records[0] == told
    file = folder / "requests.parquet"
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(list(LATER)), file)
    assert_same(read_run(folder), run)
    database.build([tmp_path], tmp_path / "x.duckdb")
    with database.connect(tmp_path / "x.duckdb") as connection:
        found = connection.execute(
            "SELECT count(*), count(first_output_token), count(adapter), count(num_token_times) FROM requests"
        ).fetchall()
    assert found == [(len(run.records), 0, 0, len(run.records))]
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["sent"]), file)
    with pytest.raises(StoreError, match="its columns are not those of schema_version"):
        read_run(folder)


def test_same_run_same_bytes_and_sorted_json(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a", make_run()), write_run(tmp_path / "b", make_run())
    names = sorted(p.name for p in first.iterdir())
    assert names == ["requests.parquet", "run.json", "telemetry.parquet", "tokens.parquet", "trace.parquet"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    text = (first / "run.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.count("\n") > 20


def test_parquet_is_zstd_with_nulls(tmp_path: Path) -> None:
    folder = write_run(tmp_path, make_run(failures=[0]))
    file = pq.ParquetFile(folder / "requests.parquet")
    assert {file.metadata.row_group(0).column(i).compression for i in range(file.metadata.num_columns)} == {"ZSTD"}
    table = file.read()
    assert table["finished"][0].as_py() is None
    assert table["output_tokens"][0].as_py() is None
    assert table["output_tokens"].null_count == 1


def test_files_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "engine.txt"
    log.write_text("ready\n")
    folder = write_run(tmp_path / "runs", make_run(), {"server.log": log})
    assert (folder / "server.log").read_text() == "ready\n"
    for name in ("run.json", "../x", "a/b", "tokens.parquet"):
        with pytest.raises(StoreError, match="cannot be kept"):
            write_run(tmp_path / "runs", make_run("other"), {name: log})
    with pytest.raises(StoreError, match=r"nowhere\.log.* does not exist"):
        write_run(tmp_path / "runs", make_run("other"), {"server.log": tmp_path / "nowhere.log"})
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [folder.name]


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = write_run(tmp_path, make_run())
    before = (folder / "run.json").read_bytes()
    with pytest.raises(StoreError, match="this run exists"):
        write_run(tmp_path, make_run(seed=5))
    assert (folder / "run.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_only_a_simulated_run_may_be_removed(tmp_path: Path) -> None:
    measured, simulated = make_pair()
    for run in (measured, simulated):
        write_run(tmp_path, run)
    remove_simulated(tmp_path, simulated.run_id)
    remove_simulated(tmp_path, simulated.run_id)  # none is there any more
    with pytest.raises(StoreError, match="this is a measured run, which is not removed"):
        remove_simulated(tmp_path, measured.run_id)
    assert [path.name for path in tmp_path.iterdir()] == [measured.run_id]


def test_only_a_simulated_run_may_be_replaced(tmp_path: Path) -> None:
    measured, simulated = make_pair()
    for run in (measured, simulated):
        write_run(tmp_path, run, replace=True)
    newer = dataclasses.replace(simulated, wall_s=9.0)
    assert_same(read_run(write_run(tmp_path, newer, replace=True)), newer)
    with pytest.raises(StoreError, match="this run exists"):
        write_run(tmp_path, measured, replace=True)
    with pytest.raises(StoreError, match="not plain JSON"):
        write_run(tmp_path, dataclasses.replace(simulated, config={"x": {1, 2}}), replace=True)
    assert_same(read_run(tmp_path / newer.run_id), newer)
    assert sorted(p.name for p in tmp_path.iterdir()) == [measured.run_id, simulated.run_id]


@pytest.mark.parametrize("run_id", ["", ".hidden", "a/b", "../up", "..", "/abs"])
def test_a_run_id_names_a_folder_in_the_root(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(StoreError, match="cannot name a folder"):
        write_run(tmp_path / "runs", make_run(run_id))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_nan_is_not_a_time(tmp_path: Path, time: float) -> None:
    run = make_run()
    for bad in (dataclasses.replace(run.records[0], finished=time), dataclasses.replace(run.records[0], token_times=(time,))):
        with pytest.raises(StoreError, match="NaN or infinite"):
            write_run(tmp_path, dataclasses.replace(run, records=(bad, *run.records[1:])))
    assert not list(tmp_path.iterdir())


def test_config_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not plain JSON"):
        write_run(tmp_path, dataclasses.replace(make_run(), config={"path": Path("x")}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [200, 3000, 20000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """Writes beyond `limit` bytes per file fail in the kernel, in run.json, in a Parquet file or in the log."""
    (tmp_path / "big.log").write_bytes(bytes(40000))
    program = f"""
        import resource, sys
        from pathlib import Path
        from results.storage.store import StoreError, write_run
        from tests.runs import make_run
        run = make_run()
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            write_run(Path(sys.argv[1]) / "runs", run, {{"server.log": Path(sys.argv[1]) / "big.log"}})
        except StoreError as error:
            sys.exit(str(error))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert "nothing was kept" in done.stderr
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_killed_writer_leaves_no_run(tmp_path: Path) -> None:
    """SIGKILL between the first file and the rename: the hidden folder stays, but it is no run."""
    program = """
        import os, signal, sys
        from pathlib import Path
        from results.storage import durable, store
        from tests.runs import make_run
        durable.sync = lambda paths: os.kill(os.getpid(), signal.SIGKILL)
        store.write_run(Path(sys.argv[1]), make_run())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir())
    assert run_folders(tmp_path) == []
    assert run_folders(tmp_path / "nowhere") == []
    assert_same(read_run(write_run(tmp_path, make_run())), make_run())


def change_json(folder: Path, **changes: object) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_damage_is_named_in_one_line(tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        return write_run(tmp_path / name, make_run())

    cases: dict[str, Path] = {}
    (folder := damaged("a")).joinpath("run.json").unlink()
    cases["no run.json"] = folder
    (folder := damaged("b")).joinpath("run.json").write_text("{")
    cases["cannot be read as JSON"] = folder
    change_json(folder := damaged("c"), schema_version=99)
    cases["schema_version 99"] = folder
    change_json(folder := damaged("d"), schema_version=None)
    cases["schema_version None"] = folder
    change_json(folder := damaged("e"), surprise=1)
    cases["unknown keys ['surprise']"] = folder
    (folder := damaged("f")).joinpath("tokens.parquet").unlink()
    cases["tokens.parquet"] = folder
    (folder := damaged("g")).joinpath("requests.parquet").write_bytes(b"PAR1 not really")
    cases["requests.parquet"] = folder
    write_run(tmp_path / "other", make_run(num_requests=3))
    (folder := damaged("h")).joinpath("requests.parquet").write_bytes((tmp_path / "other" / folder.name / "requests.parquet").read_bytes())
    cases["it has 3 rows, run.json promises 40"] = folder
    (folder := damaged("i")).joinpath("trace.parquet").write_bytes((tmp_path / "other" / folder.name / "trace.parquet").read_bytes())
    cases["sha256 differs"] = folder
    cases["the folder is renamed"] = damaged("j").rename(tmp_path / "renamed")
    for expected, folder in cases.items():
        with pytest.raises(StoreError) as caught:
            read_run(folder)
        assert expected in str(caught.value)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "{" not in str(caught.value)
