"""The main job over a toy engine of known step times: interrupts, failures and what they leave behind. Real engines: test_end_to_end.py."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from results import database
from results.profile import Profile
from results.project import ROOT
from results.record import Run, Track, Unavailable
from results.storage.store import read_run, run_folders
from simulators.errors import SimulatorError
from tests.benches import PATIENT_GATES, Bench, one_line

QUICK = (
    f"--config-dir={ROOT / 'tests' / 'conf'}",
    "engine=toy",
    "load.rho=0.5",
    "load.duration=3",
    "load.warmup=2",
    "capacity.duration=2",
    "capacity.pilot=12",
    "capacity.population=200",
    "profile.budget=2",
    "profile.prefill=[16,128]",
    "profile.held_out_prefill=[64]",
    "profile.chunks=[64]",
    "profile.decode_batches=[1,4]",
    "profile.held_out_batches=[2]",
    "profile.decode_contexts=[32]",
    "profile.mixed_prompts=[64]",
    "profile.held_out_mixed=[32]",
    "profile.mixed_batches=[2]",
    *PATIENT_GATES,
    "workload=fixed",
    "workload.input.tokens=64",
    "workload.output.tokens=8",
)


KNOWN = ("load.capacity=40",)  # requests/s: for benches that are not about finding it


class Failing:
    """A simulator that always fails, as a foreign one may."""

    system = "failing"
    environment = None

    def tracks(self) -> tuple[Track, ...]:
        return ("calibrated",)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        (scratch / "log").write_text("division by zero\n")
        raise SimulatorError(f"failing: exit code 3: division by zero (log: {scratch / 'log'})")


class Absent:
    """A simulator of which there is no copy."""

    system = "absent"
    environment = None

    def tracks(self) -> tuple[Track, ...]:
        return ("shipped",)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        raise Unavailable("no copy of it here; make simulators gets one")


def test_a_bench_measures_scores_and_reports(bench: Bench) -> None:
    done = bench.run(*QUICK, "simulator=[native]", "tracks=[calibrated]")
    assert done.returncode == 0, done.stdout + done.stderr
    measured, simulated = (read_run(folder) for folder in run_folders(bench.runs))
    assert (measured.kind, simulated.kind) == ("measured", "simulated")
    assert all(r.error is None for r in measured.records)
    assert simulated.trace == measured.trace
    with database.connect(bench.database) as connection:
        (scores,) = connection.execute("select count(*) from fidelity where error is not null").fetchone() or (0,)
    assert scores > 0
    assert measured.run_id in bench.report.read_text()
    assert str(bench.report) in done.stdout


def test_a_failed_simulator_keeps_the_measurement_and_its_log_and_one_that_cannot_be_had_is_shown(bench: Bench) -> None:
    others = [f"+simulators.{name.lower()}._target_=tests.test_bench.{name}" for name in ("Failing", "Absent")]
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", *others)
    assert done.returncode == 1
    assert done.stdout.count("FAILED: ") == 1
    assert "FAILED: failing: exit code 3: division by zero" in done.stdout
    assert [read_run(folder).kind for folder in run_folders(bench.runs)] == ["measured"]
    assert bench.report.is_file()
    (log,) = (bench.folder / "logs").glob("*failing*.log")
    assert str(log) in done.stdout
    assert "not available: absent:shipped: no copy of it here; make simulators gets one" in done.stdout
    assert "not available: no copy of it here" in bench.report.read_text()


def test_a_run_that_fails_a_gate_is_invalid_and_says_so(bench: Bench) -> None:
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", "gates.max_lag_p99=1e-7")
    assert done.returncode == 2
    assert "INVALID: dispatch lag p99" in done.stdout
    (folder,) = run_folders(bench.runs)
    assert not read_run(folder).valid
    assert "INVALID" in bench.report.read_text()


@pytest.mark.parametrize("after", ["engine", "warm-up", "capacity", "profile", "store"])
def test_an_interrupt_leaves_nothing_behind(bench: Bench, after: str) -> None:
    with bench.start(*QUICK, "simulator=[native]") as process:
        done = _interrupt_after(process, f"✓ {after}")
    assert done.returncode == 130
    assert "interrupted" in one_line(done)
    assert bench.left_halves() == []
    assert bench.left_processes() == []


def test_a_server_that_crashes_during_the_replay_ends_in_one_line(bench: Bench) -> None:
    with bench.start(*QUICK, *KNOWN, "load.duration=300", "simulator=[]") as process:
        _read_until(process, "✓ warm-up")  # what follows is the replay
        time.sleep(1)
        _kill(process.pid, "tests.stand_ins.toy_engine")
        _, err = process.communicate(timeout=540)
    assert process.returncode == 1, err
    assert "toy ended with signal 9" in err
    assert "server.log" in err
    assert run_folders(bench.runs) == []
    assert bench.left_processes() == []


def _read_until(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdout is not None
    said = ""
    for got in process.stdout:
        said += got
        if line in got:
            return said
    raise AssertionError(f"it never said {line!r}:\n{said}")


def _interrupt_after(process: "subprocess.Popen[str]", line: str) -> "subprocess.CompletedProcess[str]":
    out = _read_until(process, line)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out + rest, err)


def _kill(bench: int, program: str) -> None:
    """End the child that runs `program`, as a crash would."""
    victims = [
        p for p in psutil.Process(bench).children(recursive=True) if program in p.cmdline() and "supervisor" not in " ".join(p.cmdline())
    ]
    assert victims
    for victim in victims:
        victim.kill()
