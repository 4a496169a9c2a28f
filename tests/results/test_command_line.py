"""`python -m results`: what a user sees, errors as one line and exit code 1."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from results.storage.store import write_run
from tests.runs import make_pair, make_run


def results(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "results", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_build_list_show(tmp_path: Path) -> None:
    for run in (*make_pair(), dataclasses.replace(make_run("late[1]"), valid=False, invalid_reason="dispatch lag p99 9 ms")):
        write_run(tmp_path / "runs", run)
    path = tmp_path / "x.duckdb"
    built = results("build", "--root", tmp_path / "runs", "--database", path)
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout.startswith(f"{path}: 3 runs")
    listed = results("list", "--database", path)
    assert listed.returncode == 0
    lines = [line for line in listed.stdout.splitlines() if "vllm" in line or "vidur" in line]
    assert [line.split()[1] for line in lines] == ["late[1]", "vllm-handmade-0", "vllm-handmade-0--vidur-calibrated"]
    assert [" no " in line for line in lines] == [True, False, False]
    for column in ("run_id", "system", "track", "workload", "rho", "valid", "ttft p50", "tpot p50"):
        assert column in listed.stdout
    shown = results("show", "late[1]", "--database", path)
    assert shown.returncode == 0
    for words in ("late[1]", "dispatch lag p99 9 ms", "ttft", "output_throughput", "max_num_seqs"):
        assert words in shown.stdout


def test_errors_are_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", make_run("only"))
    (tmp_path / "runs" / "stray").mkdir()
    path = tmp_path / "x.duckdb"
    cases = {
        ("build", "--root", tmp_path / "runs", "--database", path): "runs/stray: no run.json",
        ("build", "--root", tmp_path / "nowhere"): "nowhere: no such folder",
        ("list", "--database", path): "no such database; build it with",
        ("frobnicate",): "invalid choice: 'frobnicate'",
        ("show", "--database", path): "RUN_ID",
    }
    for arguments, words in cases.items():
        done = results(*arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
    assert not path.exists()


@pytest.mark.parametrize(("asked", "words"), [("onyl", "near ones: only"), ("something else", "see `./plumbline list`")])
def test_an_unknown_run_names_the_near_ones(tmp_path: Path, asked: str, words: str) -> None:
    write_run(tmp_path / "runs", make_run("only"))
    assert results("build", "--root", tmp_path / "runs", "--database", tmp_path / "x.duckdb").returncode == 0
    done = results("show", asked, "--database", tmp_path / "x.duckdb")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert words in done.stderr
