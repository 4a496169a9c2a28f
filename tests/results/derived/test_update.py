"""A database brought up to date: the same as one made anew, and nothing is read again that nobody touched."""

import dataclasses
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

from analysis.data import AnalysisError
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from results import database
from results.database import DatabaseError
from results.record import Run
from results.storage.store import write_run
from tests.runs import make_run, make_simulated

FAST = Bootstrap(resamples=100)
TABLES = (
    *("runs", "requests", "tokens", "telemetry", "trace_requests", "run_values", "folders", "scored_runs", "scored_pairs"),
    *("saturation", "fidelity", "fidelity_parts", "attribution", "rankings", "run_metrics", "run_rates", "cell_fidelity", "knees"),
)


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with database.connect(path) as connection:
        connection.execute("SET threads = 1")
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in TABLES}


def cell(seed: int, repeats: int = 2) -> list[Run]:
    """Repeats of a cell, and two simulators held against each."""
    runs = []
    for repeat in range(repeats):
        measured = make_run(f"vllm-{seed}-{repeat}", num_requests=30, seed=seed, repeat=repeat, failures=[seed] if repeat else [])
        runs += [measured, *(make_simulated(measured, system=system, noise=0.2, seed=seed) for system in ("vidur", "native"))]
    return runs


def test_runs_that_come_change_and_go_leave_what_a_new_database_would_hold(tmp_path: Path) -> None:
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    rng, there, scored, replaced = random.Random(5), dict[str, Run](), set[str](), 0
    pool = {run.run_id: run for seed in range(4) for run in cell(seed)}
    for step in range(5):
        for run_id in rng.sample(sorted(there), min(len(there), rng.randint(0, 4))):
            shutil.rmtree(root / run_id)
            del there[run_id]
            scored.discard(run_id)
        for run_id in rng.sample(sorted(pool.keys() - there.keys()), 3):
            there[run_id] = dataclasses.replace(pool[run_id], wall_s=float(step))
            write_run(root, there[run_id])
        if stayed := sorted(scored & {run_id for run_id, run in there.items() if run.kind == "simulated"}):
            again = dataclasses.replace(make_simulated(pool[str(there[stayed[0]].measured_run_id)], scale=2.0), run_id=stayed[0])
            write_run(root, again, replace=True)  # one that is scored is simulated again, with another result
            there[again.run_id] = again
            replaced += 1
        assert database.build([root], path) == len(there)
        score(path, FAST)
        scored = set(there)
        database.build([root], tmp_path / "new.duckdb")
        score(tmp_path / "new.duckdb", FAST)
        after, anew = content(path), content(tmp_path / "new.duckdb")
        assert {table: [pair for pair in zip(rows, anew[table], strict=False) if pair[0] != pair[1]] for table, rows in after.items()} == {
            key: [] for key in after
        }
        assert after == anew
        (tmp_path / "new.duckdb").unlink()
    assert replaced >= 2


def test_a_run_that_nobody_touched_is_not_opened_again(tmp_path: Path) -> None:
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    for run in cell(1):
        write_run(root, run)
    database.build([root], path)
    before = content(path)
    kept = root / "vllm-1-0" / "requests.parquet"
    state = kept.stat()
    kept.write_bytes(bytes(state.st_size))  # no Parquet any more, of the same size and time: whoever opens it fails
    os.utime(kept, ns=(state.st_atime_ns, state.st_mtime_ns))
    write_run(root, make_run("later", seed=9))
    assert database.build([root], path) == 7
    after = content(path)
    assert [row for row in after["requests"] if row[0] != "later"] == before["requests"]
    with pytest.raises(DatabaseError, match=r"vllm-1-0/requests\.parquet"):
        database.build([root], tmp_path / "anew.duckdb")


def test_metrics_are_not_computed_again_for_another_form_of_database(tmp_path: Path) -> None:
    """Values are kept under digests of run and SQL: a database of another schema hands them on; one of other SQL does not."""
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    for run in cell(2, repeats=1):
        write_run(root, run)
    database.build([root], path)
    true = content(path)["run_values"]
    for changed, kept in (("schema = 'other'", True), ("schema = 'other', metrics = 'other'", False)):
        with duckdb.connect(path) as connection:
            connection.execute("UPDATE run_values SET value = 12345.0 WHERE metric = 'ttft'")
            connection.execute(f"UPDATE plumbline SET {changed}")
        database.build([root], path)
        values = content(path)["run_values"]
        assert ({row[3] for row in values if row[1] == "ttft"} == {12345.0}) is kept
        assert kept or values == true


def test_a_copied_folder_keeps_its_metrics_and_a_moved_root_is_read_anew(tmp_path: Path) -> None:
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    for run in cell(3, repeats=1):
        write_run(root, run)
    database.build([root], path)
    before = content(path)
    shutil.copytree(root, tmp_path / "moved")
    shutil.rmtree(root)
    assert database.build([tmp_path / "moved"], path) == 3
    after = content(path)
    for table in ("requests", "tokens", "run_values", "telemetry", "trace_requests"):
        assert after[table] == before[table]
    assert {Path(str(row[0])).parent.name for row in after["folders"]} == {"moved"}


def test_two_processes_that_build_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    for run in cell(1):
        write_run(root, run)
    program = """
        import sys
        from pathlib import Path
        from analysis.scoring.fidelity import score
        from analysis.stats import Bootstrap
        from results import database
        from results.storage.store import write_run
        from tests.runs import make_run
        root, path, mine = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
        for turn in range(6):
            write_run(root, make_run(f"of-{mine}-{turn}", seed=10 + mine, repeat=turn))
            database.build([root], path)
            score(path, Bootstrap(resamples=100))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(root), str(path)]
    both = [subprocess.Popen([*command, str(k)], stderr=subprocess.PIPE, text=True) for k in (0, 1)]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    with database.connect(path) as connection:  # whoever was last to build saw all runs, and nobody put an older database in its place
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(6 + 2 * 6,)]
        assert connection.execute("SELECT count(*) FROM saturation").fetchall() == [(6 + 2 * 6,)]
    database.build([root], tmp_path / "new.duckdb")
    score(tmp_path / "new.duckdb", FAST)
    assert content(path) == content(tmp_path / "new.duckdb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.duckdb", "runs", "x.duckdb"]


def test_who_changes_a_database_is_waited_for(tmp_path: Path) -> None:
    """Else the slower of two puts a database in place that knows nothing of what the other one added."""
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    for run in cell(1, repeats=1):
        write_run(root, run)
    database.build([root], path)
    program = "import sys; from pathlib import Path; from results import database; database.build([Path(sys.argv[1])], Path(sys.argv[2]))"
    with database.changing(path):
        write_run(root, make_run("later", seed=9))
        process = subprocess.Popen([sys.executable, "-c", program, str(root), str(path)])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(6)  # a slow machine gives it less of a chance to be wrong
    assert process.wait() == 0
    assert "later" in {row[0] for row in content(path)["runs"]}


def test_token_times_that_are_gone_are_told_in_one_line(tmp_path: Path) -> None:
    root, path = tmp_path / "runs", tmp_path / "x.duckdb"
    measured = make_run("m", num_requests=30)
    write_run(root, measured)
    write_run(root, dataclasses.replace(measured, run_id="s", kind="simulated", track="matched", measured_run_id="m", telemetry=None))
    database.build([root], path)
    shutil.rmtree(root / "s")
    with pytest.raises(AnalysisError, match=r"s/tokens\.parquet: cannot be read .*build it anew") as caught:
        score(path, FAST)
    assert "\n" not in str(caught.value)
