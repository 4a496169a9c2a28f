"""The main job over a toy engine of known step times: interrupts, failures and what they leave behind. Real engines: test_end_to_end.py."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from results import database
from results.profile import Profile
from results.project.folder import ROOT
from results.record import Run, Track, Unavailable
from results.storage.store import read_run, run_folders
from simulators.errors import SimulatorError
from tests.benches import PATIENT_GATES, Bench, one_line
from tests.patience import wait_until

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
    done = bench.run(*QUICK, "simulator=[native]", "tracks=[calibrated,shipped]", "profile.repeatability=20")
    assert done.returncode == 0, done.stdout + done.stderr
    measured, simulated, other = stored(bench)
    assert (measured.kind, simulated.kind, other.kind) == ("measured", "simulated", "simulated")
    assert all(r.error is None for r in measured.records)
    assert simulated.trace == measured.trace
    with database.connect(bench.database) as connection:
        (scores,) = connection.execute("select count(*) from fidelity where error is not null").fetchone() or (0,)
    assert scores > 0
    assert measured.run_id in bench.report.read_text()
    assert str(bench.report) in done.stdout
    assert "repeat itself" not in done.stdout  # this machine may be busy, but not twentyfold at one end only
    rows = [line for line in done.stdout.splitlines() if line.startswith(("toy measured", "native:"))]
    assert rows[0].startswith("toy measured") and len(rows) == 3
    assert {row.split()[0] for row in rows[1:]} == {"native:calibrated", "native:shipped"}
    assert max(map(len, rows)) <= 100


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


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two client processes need two CPUs")
def test_two_client_processes_make_one_run_and_a_slow_one_is_named(bench: Bench) -> None:
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", "client.processes=2", "gates.max_lag_p99=1e-7", "gates.retries=0")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "INVALID: client process 1 of 2: dispatch lag p99" in done.stdout
    (run,) = tries(bench)
    assert run.config["client"]["processes"] == 2
    assert sum(process["requests"] for process in run.provenance["client_processes"]) == len(run.records) == len(run.trace)
    assert all(r.error is None for r in run.records)


def test_a_run_that_fails_a_gate_twice_is_invalid_and_says_so(bench: Bench) -> None:
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", "gates.max_lag_p99=1e-7")
    assert done.returncode == 2
    assert "that may pass, so the same requests are sent once more" in done.stdout
    assert done.stdout.splitlines()[-2].startswith("INVALID: dispatch lag p99")
    first, second = tries(bench)
    assert not first.valid and not second.valid
    assert "earlier_tries" not in first.config
    assert second.config["earlier_tries"] == {first.run_id: first.invalid_reason}
    assert second.trace == first.trace and second.rate == first.rate
    page = bench.report.read_text()
    assert "INVALID" in page and second.run_id in page and f"second try: {first.run_id} was INVALID (dispatch lag p99" in page


def test_a_run_that_fails_a_gate_is_not_repeated_where_that_is_turned_off(bench: Bench) -> None:
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", "gates.max_lag_p99=1e-7", "gates.retries=0")
    assert done.returncode == 2
    assert [run.valid for run in tries(bench)] == [False]


def test_a_reason_that_passed_leaves_two_runs_and_the_valid_one_is_simulated(bench: Bench) -> None:
    """The machine stands still for the client, once: the 6th request is the replay's 4th, behind two that warm up."""
    still = ("+engine.law.still_at=6", "+engine.law.still_for=12", "gates.max_lag_p99=4")
    done = bench.run(*QUICK, *KNOWN, *still, "simulator=[native]", "tracks=[shipped]")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = tries(bench)
    assert not first.valid and "dispatch lag p99" in str(first.invalid_reason)
    assert second.valid and second.config["earlier_tries"] == {first.run_id: first.invalid_reason}
    assert [run.measured_run_id for run in stored(bench) if run.kind == "simulated"] == [second.run_id]
    assert f"tried before, and kept: {first.run_id}: INVALID: dispatch lag" in done.stdout


def test_failed_requests_are_not_tried_again(bench: Bench) -> None:
    done = bench.run(*QUICK, *KNOWN, "simulator=[]", "+engine.law.refuse=true", "gates.max_lag_p99=1e-7")
    assert done.returncode == 2
    assert "INVALID: 60 of 60 requests failed" in done.stdout
    assert len(tries(bench)) == 1


def test_a_machine_that_does_not_repeat_itself_is_said_before_all_else(bench: Bench) -> None:
    slower = ("+engine.law.after_refusal=6", "profile.repeatability=2")
    done = bench.run(*QUICK, "load.rho=null", "load.rate=4", *KNOWN, *slower, "simulator=[native]", "tracks=[calibrated]")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = tries(bench)
    profile = Profile.read(bench.runs / run.run_id)
    assert run.provenance["repeatability"] == profile.provenance["repeatability"]
    assert min(profile.provenance["repeatability"]["change"].values()) > 2
    said = done.stdout[done.stdout.index("✓ report") :].splitlines()
    assert said[1].startswith("The machine did not repeat itself to 200 %.")
    (verdict,) = (line for line in said if "On toy 1" in line)
    assert verdict.startswith("The machine's own error is ")
    assert "The machine did not repeat itself" in bench.report.read_text()


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


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two client processes need two CPUs")
def test_client_processes_that_are_killed_end_the_bench_in_one_line(bench: Bench) -> None:
    with bench.start(*QUICK, *KNOWN, "load.duration=300", "simulator=[]", "client.processes=2") as process:
        _read_until(process, "✓ warm-up")  # what follows is the replay
        assert wait_until(lambda: len(_running(process.pid, "harness.replay.shards.worker")) == 2)
        _kill(process.pid, "harness.replay.shards.worker")
        _, err = process.communicate(timeout=540)
    assert process.returncode == 1, err
    assert "was ended by SIGKILL before its requests were answered" in err and err.count("plumbline: ") == 1
    assert run_folders(bench.runs) == []
    assert bench.left_processes() == []


def stored(bench: Bench) -> list[Run]:
    return [read_run(folder) for folder in run_folders(bench.runs)]


def tries(bench: Bench) -> list[Run]:
    """The measured runs, the first one first."""
    return sorted((run for run in stored(bench) if run.kind == "measured"), key=lambda run: run.started_at)


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


def _running(bench: int, program: str) -> list[psutil.Process]:
    """The children that run `program`."""
    return [
        p for p in psutil.Process(bench).children(recursive=True) if program in p.cmdline() and "supervisor" not in " ".join(p.cmdline())
    ]


def _kill(bench: int, program: str) -> None:
    """End the children that run `program`, as a crash would."""
    victims = _running(bench, program)
    assert victims
    for victim in victims:
        victim.kill()


def test_a_sweep_of_closed_loops_has_a_run_for_each_on_one_server(bench: Bench) -> None:
    done = bench.run(*QUICK, "load.concurrency=[1,3]", "load.num_requests=60", "simulator=[native]", "tracks=[matched]")
    assert done.returncode in (0, 2), done.stdout + done.stderr
    assert done.stdout.count("start, and wait until it is ready") == 1 and "capacity " not in done.stdout
    measured = [run for run in stored(bench) if run.kind == "measured"]
    assert [run.concurrency for run in measured] == [1, 3]
    for run in measured:
        assert (run.rate, run.rho, run.config["load"]["loop"], len(run.trace)) == (None, None, "closed", 60)
        if run.valid:
            assert run.window is not None and run.provenance["in_flight"] <= run.config["load"]["concurrency"] + 1e-6
            assert sum(run.window[0] <= r.arrival <= run.window[1] for r in run.trace) >= 20
        else:  # the machine was too restless
            assert str(run.invalid_reason).startswith("the closed loop shows no steady state")
    rows = [line.split() for line in done.stdout.partition("\nsweep\n")[2].splitlines()]
    assert [row[0] for row in rows if row and row[-1] in ("yes", "no")] == ["1", "3"]


def test_a_bench_of_sessions_sends_turns_when_they_are_due_and_so_does_native(bench: Bench) -> None:
    """Ids that descend within a session, as a file may have them; the capacity and the warm-up wait for no turn."""
    rows = [
        f"{3 * i + 2 - turn},{0.1 * i},32,8,{i},{'' if turn == 0 else 3 * i + 3 - turn},{0.02 * turn}"
        for i in range(8)
        for turn in range(3)
    ]
    path = bench.folder / "sessions.csv"
    path.write_text("\n".join(["request_id,arrival,input_tokens,output_tokens,session,after,delay", *rows]) + "\n")
    words = ("workload=csv", f"workload.source.path={path}", "load.num_requests=24", "simulator=[native]", "tracks=[matched]")
    done = bench.run(*(word for word in QUICK if not word.startswith("workload")), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    for run in stored(bench):
        ended = {r.request_id: r.finished for r in run.records}
        assert len(run.records) == 24 and all(r.error is None for r in run.records)
        waits = {r.request_id: r for r in run.trace}
        for record in run.records:
            request = waits[record.request_id]
            for other in request.after:
                assert record.sent is not None and record.sent >= record.arrival >= (ended[other] or 0.0) + request.delay - 1e-9
