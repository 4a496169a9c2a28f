"""A campaign rehearsed on the toy engine: every task kept as it ends, killed midway and resumed, nothing lost, nothing doubled."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.report import Report
from analysis.stats import Bootstrap
from results import database
from results.operations import Operations, stored
from results.profile import Profile
from results.project.folder import ROOT
from results.record import Run
from results.storage.archive import extract, unpack_runs
from results.storage.run_tables import StoreError
from results.storage.store import read_run
from tests.benches import Bench
from tests.stand_ins.nvml import nvml

TASKS = ["toy-profile", "toy-fixed-capacity", "toy-fixed-rho0.30-0", "toy-fixed-rho0.60-0", "toy-fixed-rho0.60-1", "narrow-fixed-rate2-0"]


def argv(out: Path, *settings: str) -> list[str]:
    campaign = [] if any(s.startswith("campaign=") for s in settings) else ["campaign=toy"]
    return [sys.executable, "-m", "harness.campaign", f"--config-dir={ROOT / 'tests' / 'conf'}", *campaign, f"out={out}", *settings]


def start(bench: Bench, *settings: str, environ: Mapping[str, str] = os.environ) -> "subprocess.Popen[str]":
    environ = dict(environ) | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", "PLUMBLINE_TEST_TAG": bench.tag}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv(bench.folder / "out", *settings), cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True)


def call(bench: Bench, *settings: str, environ: Mapping[str, str] = os.environ) -> "subprocess.CompletedProcess[str]":
    with start(bench, *settings, environ=environ) as process:
        out, err = process.communicate(timeout=900)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def archives(bench: Bench) -> dict[str, Path]:
    """Task name (without its hash) to file."""
    return {path.name.rpartition("-")[0]: path for path in (bench.folder / "out").glob("*.tar.gz")}


def started(said: str) -> list[str]:
    return [line.split()[1] for line in said.splitlines() if line.startswith("task ")]


LEFT = r"(a few seconds|about \d+ s|about \d+ min) left"


def runs(bench: Bench, name: str) -> list[Run]:
    unpacked = unpack_runs(archives(bench).values(), bench.folder / name)
    return [read_run(folder) for folder in unpacked if folder.parent.name == name]  # the others are times of operations


def kill_at(bench: Bench, task: str, *settings: str) -> str:
    """Start a campaign, kill it when it begins a task (no chance to clean up), return what it said."""
    with start(bench, *settings) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith(f"task {task}"):
                break
        process.kill()
        process.communicate(timeout=60)
    return said


def test_a_campaign_killed_midway_goes_on_where_it_stopped(bench: Bench) -> None:
    said = kill_at(bench, "toy-fixed-rho0.60-0")
    assert started(said) == TASKS[:4]
    assert len(re.findall(rf"^task \S+ \(\w+\)  \d of 6, after [\d.]+ min, {LEFT}$", said, re.MULTILINE)) == 4, said
    assert set(archives(bench)) == set(TASKS[:3])
    assert bench.left_processes() == []
    before = {path: path.read_bytes() for path in archives(bench).values()}

    again = call(bench)
    assert again.returncode == 0, again.stdout + again.stderr
    assert started(again.stdout) == TASKS[3:]
    assert again.stdout.count("✓ engine") == 2  # one server for all tasks of an engine
    assert {path: path.read_bytes() for path in before} == before
    assert set(archives(bench)) == set(TASKS)
    left = {path.name for path in (bench.folder / "out").iterdir()} - {path.name for path in archives(bench).values()}
    assert left == {".lock"}

    third = call(bench)
    assert third.returncode == 0 and started(third.stdout) == [] and "✓ engine" not in third.stdout
    assert "6 of 6 tasks finished, 0 left\n" in third.stdout

    measured = runs(bench, "runs")
    assert all(run.rate == pytest.approx(run.rho * capacity_rate(bench)) for run in measured if run.rho)
    assert [(run.rho, run.repeat) for run in sorted(measured, key=lambda r: r.started_at)] == [(0.3, 0), (0.6, 0), (0.6, 1), (None, 0)]
    assert all(record.error is None for run in measured for record in run.records)
    assert unpack_runs(archives(bench).values(), bench.folder / "runs") == []  # a second time adds nothing
    profile = Profile.read(extract(archives(bench)["toy-profile"], bench.folder / "profile") / "profile")
    with_profile = [folder for folder in (bench.folder / "runs").iterdir() if (folder / "profile.json").is_file()]
    assert len(with_profile) == 3
    assert {Profile.read(folder).profile_id for folder in with_profile} == {profile.profile_id}


def capacity_rate(bench: Bench) -> float:
    folder = extract(archives(bench)["toy-fixed-capacity"], bench.folder / "capacity")
    return float(json.loads((folder / "capacity.json").read_text())["rate"])


def test_gpus_are_watched_during_a_run(bench: Bench) -> None:
    watched = ("overrides=['hardware=h200','telemetry_interval=0.1','load.duration=3']", "tasks=['narrow-*']")
    done = call(bench, *watched, environ=nvml(bench.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = runs(bench, "runs")
    assert run.telemetry is not None
    power = run.telemetry[run.telemetry["name"] == "gpu0_power_w"]
    assert len(power) > 2 and set(power["value"]) == {500.0}
    assert "gpu1_power_w" not in set(run.telemetry["name"])  # the engine takes one GPU
    assert [told["name"] for told in run.provenance["gpus"]] == ["NVIDIA H200", "NVIDIA H200"]

    database.build([bench.folder / "runs"], bench.database)
    Report(database=bench.database, out=bench.report, bootstrap=Bootstrap(resamples=100)).write(run.run_id)
    assert run.window is not None
    start, end = run.window
    tokens = sum(start <= time < end for record in run.records for time in record.token_times or ())
    shown = re.search(r"energy per output token \(J\)\D*([\d.]+)", bench.report.read_text())
    assert shown is not None and float(shown[1]) == pytest.approx(500 * (end - start) / tokens, rel=0.01)


def test_nothing_is_measured_under_another_gpu_s_name(bench: Bench) -> None:
    done = call(bench, "overrides=['hardware=h100']", environ=nvml(bench.folder))
    assert done.returncode == 1 and started(done.stdout) == []
    assert "hardware=h100, but the GPU here is an 'NVIDIA H200': give hardware=h200" in done.stdout


def test_no_task_begins_that_would_end_too_late(bench: Bench) -> None:
    done = call(bench, "until=20")
    assert done.returncode == 0, done.stderr
    assert started(done.stdout) == [] and "6 left" in done.stdout


def test_an_empty_file_stands_for_a_run_kept_elsewhere(bench: Bench) -> None:
    shown = call(bench, "plan=true").stdout.split()
    (name,) = [word for word in shown if word.startswith("narrow")]
    (bench.folder / "out").mkdir()
    (bench.folder / "out" / name).touch()
    done = call(bench, "steps=['narrow-*']")  # what `tasks` was called before
    assert started(done.stdout) == [] and "1 of 1 tasks finished" in done.stdout
    assert unpack_runs([bench.folder / "out" / name], bench.folder / "runs") == []


def test_where_things_lie_does_not_change_a_task_but_what_is_measured_does(bench: Bench) -> None:
    plain, moved, other = (
        {w for w in call(bench, "plan=true", "tasks=['narrow-*']", f"overrides=[{more}]").stdout.split() if w.startswith("narrow")}
        for more in ("", "'paths.models=/elsewhere'", "'load.warmup=3'")
    )
    assert len(plain) == 1 and moved == plain and other.isdisjoint(plain)


def test_what_fails_is_said_and_keeps_nothing_else_from_being_measured(bench: Bench) -> None:
    done = call(bench, "campaign=broken")
    assert done.returncode == 1, done.stderr
    assert list(archives(bench)) == ["sound-fixed-rate2-0"]
    assert done.stdout.count("start, and wait until it is ready") == 1  # a missing file is seen before a server is started for it
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED: ")]
    assert len(failed) == 3
    assert "unset-fixed-rate2-0" in failed[1] and "engine.python" in failed[1]
    assert "lost-csv-rate2-0" in failed[0] and "/nowhere/trace.csv" in failed[0]
    assert failed[2].count("broken-fixed-rate2-0") == 2 and "exit code 1" in failed[2]
    (log,) = (bench.folder / "out").glob("*.failed.log")
    assert "exit code 1" in log.read_text()


def test_operations_of_an_engine_without_an_interpreter_are_one_clear_line(bench: Bench) -> None:
    group = "campaign.groups=[{_target_: harness.grid.plan.Group, name: toy, operations: true}]"
    target = "_target_: harness.microbench.benchmarks.Benchmarks"
    sizes = "tokens: 64, chunk: 64, context: 64, batch: 2, kv_tokens: 128, warmup: 1, active: 1"
    timed = f"+campaign.operations={{{target}, budget: 1, start: 1, shares: [1, 1, 1], {sizes}}}"
    done = call(bench, group, timed)
    assert done.returncode == 1, done.stderr
    assert "FAILED: toy-operations: operations: engine toy has no interpreter of its own that could time them" in done.stdout


def test_two_campaigns_do_not_write_into_one_folder(bench: Bench) -> None:
    with start(bench) as process:
        assert process.stdout is not None
        process.stdout.readline()
        second = call(bench)
        process.kill()
        process.communicate(timeout=60)
    assert second.returncode == 1 and "another campaign writes here" in second.stderr


def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "run-abc.tar.gz"
    broken.write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(StoreError, match=r"run-abc\.tar\.gz: cannot be unpacked"):
        unpack_runs([broken], tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_measuring_machine_needs_no_database_plots_or_package_installer() -> None:
    missing = ("duckdb", "plotly", "uv", "numba", "playwright", "hypothesis")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import harness.campaign, harness.engines.vllm, harness.engines.sglang"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr


PLANNED = re.compile(r"(?:(\d+):(\d+) to (\d+):(\d+)|not reached)  (\S+)-\w+\.tar\.gz  engine (\w+)  about (\d+) s")


def test_the_plan_for_an_h200_puts_first_what_the_study_stands_on() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.campaign", "campaign=h200", "plan=true", "until=1500"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    rows = [match for line in done.stdout.splitlines() if (match := PLANNED.search(line))]
    assert len(rows) == done.stdout.count(".tar.gz")
    names, engines = [row[5] for row in rows], [row[6] for row in rows]
    assert len(set(names)) == len(names) and max(int(row[7]) for row in rows) <= 480
    assert len({e for n, e in zip(names, engines, strict=True) if n.startswith(("vllm-azure", "vllm-profile", "vllm-mooncake"))}) == 1
    for engine in ("vllm", "sglang"):
        loads = [n.rsplit("-", 2)[1:] for n in names if n.startswith(f"{engine}-azure_conv-rho")]
        assert {load for load, _ in loads} == {"rho0.30", "rho0.60", "rho0.80", "rho0.95", "rho1.10"}
        assert {repeat for load, repeat in loads if load in ("rho0.60", "rho0.95")} == {"0", "1", "2", "3"}
    assert "vllm-operations" in names
    ends = {row[5]: 60 * int(row[3]) + int(row[4]) for row in rows if row[3]}  # s
    assert names[:3] == ["vllm-profile", "vllm-azure_conv-capacity", "vllm-azure_conv-rho0.60-0"]
    assert max(ends[f"vllm-azure_conv-rho{rho}-0"] for rho in ("0.30", "0.60", "0.80", "0.95", "1.10")) <= 900
    assert {"vllm-azure_conv-rho0.60-1", "vllm-azure_conv-rho0.95-1", "sglang-profile", "sglang-azure_conv-rho0.95-0"} <= set(ends)


def test_the_plan_for_a_quarter_of_an_hour_takes_8_minutes_of_a_running_server() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.campaign", "campaign=h200_quick", "plan=true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    rows = [match for line in done.stdout.splitlines() if (match := PLANNED.search(line))]
    assert [row[5] for row in rows] == [
        "vllm-profile",
        *(f"vllm-azure_conv-rate{rate}-0" for rate in (12, 18, 6)),
        *(f"vllm-fixed_4096-rate{rate}-0" for rate in (3, 6)),
    ]
    assert len({row[6] for row in rows}) == 1 and done.stdout.count("for its server to start") == 1
    told = re.search(r"of which servers are up for (\d+) s", done.stdout)
    assert told and int(told[1]) <= 480
    assert sum(int(row[7]) for row in rows) == pytest.approx(int(told[1]), abs=len(rows))


def test_the_quarter_of_an_hour_rehearsed_on_the_toy_engine(bench: Bench) -> None:
    """Killed midway, as where a box is taken away: what had ended is there, and the next call does the rest."""
    quick = ("campaign=h200_quick_toy",)
    said = kill_at(bench, "vllm-azure_conv_like-rate2.2-0", *quick)
    assert set(archives(bench)) == {"vllm-profile", "vllm-azure_conv_like-rate1.5-0"}, said
    assert bench.left_processes(patience=60.0) == []
    assert len(runs(bench, "before")) == 1
    again = call(bench, *quick)
    assert again.returncode == 0, again.stdout + again.stderr
    assert started(again.stdout) == [
        *(f"vllm-azure_conv_like-rate{rate}-0" for rate in (2.2, 0.75)),
        *(f"vllm-fixed_1024-rate{rate}-0" for rate in (2, 4)),
    ]
    measured = runs(bench, "runs")
    assert sorted((run.workload, run.rate) for run in measured) == [
        *(("azure_conv_like", rate) for rate in (0.75, 1.5, 2.2)),
        *(("fixed_1024", rate) for rate in (2.0, 4.0)),
    ]
    assert all(run.rho is None and all(record.error is None for record in run.records) for run in measured)
    assert all((bench.folder / "runs" / run.run_id / "profile.json").is_file() for run in measured)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_the_whole_campaign_rehearsed_on_real_engines(bench: Bench) -> None:
    first = kill_at(bench, "vllm-azure_conv_like-rho0.30-0", "campaign=tiny")
    kept = {path: path.read_bytes() for path in archives(bench).values()}
    assert set(archives(bench)) == {"vllm-profile", "vllm-azure_conv_like-capacity", "vllm-azure_conv_like-rho0.60-0"}, first
    assert bench.left_processes(patience=60.0) == []
    again = call(bench, "campaign=tiny")
    assert again.returncode == 0, again.stdout + again.stderr
    assert started(again.stdout)[0] == "vllm-azure_conv_like-rho0.30-0"
    assert again.stdout.count("✓ engine") == 3
    times = Operations.read(stored([extract(archives(bench)["vllm-operations"], bench.folder / "operations")])[-1])
    assert times.hardware == "cpu" and {"mlp_up_proj", "attn_prefill", "attn_decode"} <= set(times.times["operation"])
    assert {path: path.read_bytes() for path in kept} == kept
    measured = runs(bench, "runs")
    assert len(measured) == 5 and len({run.run_id for run in measured}) == 5
    assert all(run.limits.kv_tokens and all(record.error is None for record in run.records) for run in measured)
    shared = [run for run in measured if run.workload == "mooncake_like"]
    cached = {run.limits.prefix_caching: sum(record.cached_tokens or 0 for record in run.records) for run in shared}
    assert cached[True] > 0 and cached[False] == 0
