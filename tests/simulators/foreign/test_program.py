"""A foreign program's life, with real small child programs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from results.project.folder import ROOT
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.program import check_finite, check_rows, clean_environment, interpreter, run_program
from tests.patience import wait_until


def run(tmp_path: Path, code: str, *, limit: float = 60.0) -> None:
    run_program("toy", [sys.executable, "-c", code], cwd=tmp_path, log=tmp_path / "log", limit=limit)


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie that nobody reaps yet does not)."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    return wait_until(lambda: not alive(pid), seconds=20)


def test_its_output_files_usage_and_log_come_back(tmp_path: Path) -> None:
    code = "import pathlib, time; b = bytearray(150_000_000); pathlib.Path('out').write_text('42'); print('done'); time.sleep(0.5)"
    usage = run_program("toy", [sys.executable, "-c", code], cwd=tmp_path, log=tmp_path / "log", limit=60)
    assert (tmp_path / "out").read_text() == "42"
    assert (tmp_path / "log").read_text() == "done\n"
    assert usage.peak_memory >= 150_000_000
    assert usage.wall_s >= 0.5
    assert usage.cpu_s > 0


def test_peak_memory_is_the_programs_own_not_ours(tmp_path: Path) -> None:
    ballast = bytearray(os.urandom(1)) * 300_000_000
    usage = run_program("toy", ["sleep", "0.3"], cwd=tmp_path, log=tmp_path / "log", limit=60)
    assert usage.peak_memory < 50_000_000 < len(ballast)


def test_exit_code_log_and_last_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError) as error:
        run(tmp_path, "import sys; print('reading the trace'); print('no such column: x', file=sys.stderr); print(); sys.exit(3)")
    assert str(error.value) == f"toy: ended with exit code 3; log {tmp_path / 'log'}, last line: no such column: x"


def test_a_program_that_never_ends_is_stopped_with_all_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, pathlib, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "print('still at it', flush=True)\n"
        "time.sleep(600)"
    )
    with pytest.raises(NotAvailable, match=r"^toy: took longer than its limit of 0.5 s of CPU time"):
        run(tmp_path, code, limit=0.5)  # ten times as much of wall-clock time: it only sleeps
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_one_that_computes_too_long_is_not_available(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"^toy: took longer than its limit of 0.5 s of CPU time"):
        run(tmp_path, "while True: pass", limit=0.5)


def supervising(child: str) -> str:
    """A program that only waits for another one, which it has put into a session of its own."""
    return (
        "import subprocess, pathlib, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "child.wait()"
    )


def test_one_that_computes_in_another_session_is_stopped_by_what_it_spends(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"^toy: took longer than its limit of 1 s of CPU time"):
        run(tmp_path, supervising("while True: pass"), limit=1.0)
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_peak_memory_is_that_of_the_process_which_computes(tmp_path: Path) -> None:
    code = supervising("import time; b = bytearray(150_000_000); time.sleep(0.5)")
    usage = run_program("toy", [sys.executable, "-c", code], cwd=tmp_path, log=tmp_path / "log", limit=60)
    assert usage.peak_memory >= 150_000_000


def test_ctrl_c_ends_it_and_its_children(tmp_path: Path) -> None:
    child = (
        "import subprocess, pathlib, time; pathlib.Path('child').write_text(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    )
    ours = (
        "import sys, pathlib; from simulators.foreign.program import run_program; here = pathlib.Path(sys.argv[1]); "
        "run_program('toy', [sys.executable, '-c', sys.argv[2]], cwd=here, log=here / 'log', limit=600)"
    )
    with subprocess.Popen([sys.executable, "-c", ours, str(tmp_path), child], cwd=ROOT, stderr=subprocess.PIPE) as parent:
        wait_until(lambda: (tmp_path / "child").is_file() and bool((tmp_path / "child").read_text()))
        parent.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in parent.communicate(timeout=60)[1]
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_children_left_behind_by_a_good_exit_are_ended_too(tmp_path: Path) -> None:
    run(tmp_path, "import subprocess, pathlib; pathlib.Path('child').write_text(str(subprocess.Popen(['sleep', '600']).pid))")
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_signal_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"was killed by signal SIGTERM; log .*, which is empty"):
        run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="toy: could not start /nowhere/python: No such file"):
        run_program("toy", ["/nowhere/python"], cwd=tmp_path, log=tmp_path / "log", limit=5)


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"exit code 1; .*last line: OSError: .*No space left on device"):
        run(tmp_path, "out = open('/dev/full', 'w'); out.write('x'); out.flush()")


def test_it_sees_nothing_of_our_python_and_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    seen = clean_environment({"EXTRA": "1"})
    assert "PYTHONPATH" not in seen
    assert "WANDB_API_KEY" not in seen
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["EXTRA"] == "1"
    run(tmp_path, "import os, sys; sys.exit('PYTHONPATH' in os.environ or os.environ['PYTHONHASHSEED'] != '0')")


def test_a_missing_environment_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"environment toy: .*bin/python is missing; .*installs it from conf/envs/toy.txt"):
        interpreter("toy", tmp_path)


def test_exit_0_with_rows_missing_names_them(tmp_path: Path) -> None:
    run(tmp_path, "print('0\\n1\\n2')")
    got = [int(line) for line in (tmp_path / "log").read_text().split()]
    with pytest.raises(SimulatorError, match=r"toy: 10 requests asked, 3 rows came out: 7 missing \(ids 3, 4, 5, 6, 7, ...\); log "):
        check_rows("toy", range(10), got, tmp_path / "log")


def test_unknown_and_repeated_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"2 requests asked, 4 rows came out: 1 unknown \(ids 9\), 1 repeated"):
        check_rows("toy", [1, 2], [1, 2, 2, 9], tmp_path / "log")


def test_the_same_rows_in_another_order_are_fine(tmp_path: Path) -> None:
    check_rows("toy", [3, 1, 2], [1, 2, 3], tmp_path / "log")


def test_nan_is_refused_with_its_row_and_column(tmp_path: Path) -> None:
    run(tmp_path, "print('0.25,nan')")
    ttft, e2e = map(float, (tmp_path / "log").read_text().split(","))
    with pytest.raises(SimulatorError, match="toy: its output for request 7 has e2e=nan; log "):
        check_finite("toy", 7, {"ttft": ttft, "e2e": e2e}, tmp_path / "log")
