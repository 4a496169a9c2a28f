"""A study rehearsed on the toy engine: killed midway and resumed, nothing lost or doubled; its simulations through Hydra's launchers."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from harness import environment
from harness.command_line import launchers
from harness.engine import EngineError
from harness.grid.plan import Group
from harness.study import Study
from results import database
from results.project.folder import ROOT
from results.record import Run
from results.storage.store import read_run, run_folders, write_run
from tests.benches import Bench, one_line
from tests.runs import make_run, make_simulated

TASKS = ["toy-profile", "toy-fixed-capacity", "toy-fixed-rho0.30-0", "toy-fixed-rho0.60-0", "toy-fixed-rho0.60-1", "narrow-fixed-rho0.30-0"]
CONF = f"--config-dir={ROOT / 'tests' / 'conf'}"


def start(bench: Bench, module: str, *words: str) -> "subprocess.Popen[str]":
    given = {word.partition("=")[0] for word in words}
    paths = [f"paths.{name}={bench.folder / name}" for name in ("runs", "measured", "studies", "logs") if f"paths.{name}" not in given]
    command = [sys.executable, "-m", module, *words, *paths, f"paths.database={bench.database}"]
    environ = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", "PLUMBLINE_TEST_TAG": bench.tag}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def call(bench: Bench, *words: str, module: str = "harness.study") -> "subprocess.CompletedProcess[str]":
    with start(bench, module, *words) as process:
        out, err = process.communicate(timeout=540)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def runs(bench: Bench) -> list[Run]:
    return [read_run(folder) for folder in run_folders(bench.runs)]


def started(said: str) -> list[str]:
    return [line.split()[1] for line in said.splitlines() if line.startswith("task ")]


def whole_run(name: str, **settings: int) -> Run:
    """A measured run that a simulator can be given: its model and hardware are the tiny ones."""
    parts = {part: OmegaConf.load(ROOT / "conf" / part / f"{choice}.yaml") for part, choice in (("model", "tiny"), ("hardware", "cpu"))}
    run = make_run(name, **settings)  # type: ignore[arg-type]
    about = {"model": OmegaConf.to_container(parts["model"].config), "hardware": OmegaConf.to_container(parts["hardware"])}
    return dataclasses.replace(run, config={**run.config, **about})


def test_a_study_killed_midway_goes_on_where_it_stopped(bench: Bench) -> None:
    with start(bench, "harness.study", CONF, "study=toy") as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith(f"task {TASKS[3]}"):
                break
        process.kill()
        process.communicate(timeout=60)
    assert started(said) == TASKS[:4]
    assert bench.left_processes() == [] and bench.left_halves() == []
    assert [(run.rho, run.repeat) for run in runs(bench)] == [(0.3, 0)]
    before = {path: path.read_bytes() for path in bench.runs.rglob("*") if path.is_file()}

    again = call(bench, CONF, "study=toy", f"report.out={bench.report}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert started(again.stdout) == TASKS[3:]
    assert {path: path.read_bytes() for path in before} == before
    assert bench.report.is_file()
    measured = [run for run in runs(bench) if run.kind == "measured"]
    assert sorted((run.rho or 0, run.repeat) for run in measured) == [(0, 0), (0.3, 0), (0.6, 0), (0.6, 1)]
    check_labels(measured)
    narrow = next(run for run in measured if run.rho is None)  # at the rate of another engine, so at no known share of its own capacity
    wide = next(run for run in measured if run.rho == 0.3)
    assert narrow.rate == wide.rate and narrow.trace.sha256 == wide.trace.sha256 and narrow.limits != wide.limits
    simulated = [run for run in runs(bench) if run.kind == "simulated"]
    tracks = {run.run_id: sorted(str(s.track) for s in simulated if s.measured_run_id == run.run_id) for run in measured}
    assert tracks == {run.run_id: ["calibrated", "matched"] if run is not narrow else ["matched"] for run in measured}  # no profile of it
    labels = {run.run_id: run.config["study"] for run in measured}
    assert all(run.config["study"] == labels[str(run.measured_run_id)] for run in simulated)
    with database.connect(bench.database) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT cell) FROM runs WHERE study = 'toy'").fetchone() == (11, 3)

    third = call(bench, CONF, "study=toy", "do=[measure,simulate]")
    assert third.returncode == 0 and started(third.stdout) == [] and "simulate" not in third.stdout.replace("simulated", "")
    assert len(runs(bench)) == 11


def check_labels(measured: Sequence[Run]) -> None:
    """The cell is the same for repeats and for nothing else; the point is a run's own, and its id ends in it."""
    labels = [run.config["study"] for run in measured]
    assert {label["name"] for label in labels} == {"toy"}
    assert all(re.fullmatch("[0-9a-f]{12}", label[name]) for label in labels for name in ("cell", "point"))
    assert len({label["point"] for label in labels}) == len(measured)
    assert all(run.run_id.endswith(f"-{run.config['study']['point']}") for run in measured)
    cells = {(run.rho, run.limits.max_num_seqs): run.config["study"]["cell"] for run in measured}
    assert len(set(cells.values())) == len(cells) == 3
    assert all(run.config["study"]["cell"] == cells[run.rho, run.limits.max_num_seqs] for run in measured)


def test_an_invalid_cell_is_shown_as_such_and_not_simulated(bench: Bench) -> None:
    words = [
        CONF,
        "study=toy",
        "do=[measure,simulate]",
        "tasks=['narrow-*']",
        "overrides=['load.rho=null','load.rate=5','gates.max_lag_p99=1e-9']",
    ]
    done = call(bench, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "INVALID: " in done.stdout and "dispatch lag" in done.stdout
    (run,) = runs(bench)
    assert not run.valid
    again = call(bench, *words)
    assert again.returncode == 2 and started(again.stdout) == []
    third = call(bench, *words, "retry=[invalid]")
    assert third.returncode == 2 and started(third.stdout) == ["narrow-fixed-rate5-0"]  # once more, and no oftener
    assert len(runs(bench)) == 2


def test_recorded_runs_make_a_study_and_a_lost_one_fails_its_cell_only(bench: Bench) -> None:
    for name, repeat in (("first", 0), ("second", 1)):
        write_run(bench.folder / "measured", whole_run(name, repeat=repeat))
    done = call(bench, CONF, "study=recorded", "do=[measure,simulate]", "hydra/launcher=basic")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: kept-nowhere: engine=recorded: no run named nowhere" in done.stdout
    copies = [run for run in runs(bench) if run.kind == "measured"]
    assert sorted(run.config["study"]["copy_of"] for run in copies) == ["first", "second"]
    assert len({run.config["study"]["cell"] for run in copies}) == 1  # repeats of one cell
    assert sorted(str(run.measured_run_id) for run in runs(bench) if run.kind == "simulated") == sorted(run.run_id for run in copies)
    again = call(bench, CONF, "study=recorded", "do=[measure,simulate]", "hydra/launcher=basic")
    assert started(again.stdout) == ["kept-nowhere"] and len(runs(bench)) == 4


class Homeless:
    """A simulator whose environment cannot be had."""

    system = "homeless"
    environment = "nowhere"


def test_what_others_simulated_in_a_studys_place_is_simulated_again_and_what_cannot_be_is_not_left(bench: Bench) -> None:
    write_run(bench.folder / "measured", whole_run("first"))
    words = [CONF, "study=recorded", "tasks=['kept-first']", "do=[measure,simulate]", "hydra/launcher=basic"]
    assert call(bench, *words).returncode == 0
    copy, mine = sorted(runs(bench), key=lambda run: run.kind)
    slow = [
        "engine=recorded",
        f"engine.run={copy.run_id}",
        "simulator=[native]",
        "tracks=[matched]",
        "simulators.native.roofline.step=0.5",
    ]
    assert bench.run(*slow).returncode == 0
    assert next(run for run in runs(bench) if run.kind == "simulated").records != mine.records
    again = call(bench, *words)
    assert again.returncode == 0 and "simulate native on 1 measured runs" in again.stdout
    assert next(run for run in runs(bench) if run.kind == "simulated").records == mine.records

    write_run(bench.runs, make_simulated(copy, system="homeless", track="matched"))  # of a day when it could be had, with whatever settings
    failed = call(bench, *words, "study.simulators=[homeless]")
    assert failed.returncode == 1 and f"FAILED: {copy.run_id}, homeless: environment nowhere" in failed.stdout
    assert sorted(run.run_id for run in runs(bench)) == [copy.run_id, mine.run_id]


def simulate(bench: Bench, *words: str) -> "subprocess.CompletedProcess[str]":
    """Two stored runs as two jobs of Hydra's."""
    for name in ("first", "second"):
        write_run(bench.runs, whole_run(name))
    sweep = ["-m", "engine=recorded", "engine.run=first,second", "simulator=[native]", "tracks=[shipped,matched]"]
    return call(bench, *sweep, *words, module="harness.simulate")


def check_simulated(bench: Bench, done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    made = sorted(folder.name for folder in run_folders(bench.runs) if "--" in folder.name)
    assert made == [f"{run}--native-{track}" for run in ("first", "second") for track in ("matched", "shipped")]
    outcomes = {path.name: json.loads(path.read_text()) for path in (bench.runs / ".outcomes").iterdir()}
    assert sorted(outcomes) == ["first--native.json", "second--native.json"]
    assert all(set(told["runs"]) == {"native:shipped", "native:matched"} and not told["failures"] for told in outcomes.values())


SLURM = pytest.mark.skipif(
    os.environ.get("PLUMBLINE_TEST_SLURM") != "1",
    reason="PLUMBLINE_TEST_SLURM=1 gives the jobs to this machine's Slurm (pytest's --basetemp: a folder that all nodes see)",
)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", pytest.param("submitit_slurm", marks=SLURM)])
def test_jobs_by_a_launcher(bench: Bench, launcher: str) -> None:
    check_simulated(bench, simulate(bench, f"hydra/launcher={launcher}"))


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of two Ray nodes on this machine."""
    try:
        python = environment.ensure("launchers")
    except EngineError as error:
        pytest.skip(str(error))
    environ = os.environ | {"RAY_raylet_start_wait_time_s": "180"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [str(python), "tests/stand_ins/two_nodes.py"], cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("", timeout=60)


def test_jobs_on_a_ray_cluster_of_two_nodes(bench: Bench, cluster: str) -> None:
    """A node has one core and a job takes one, so two jobs at once are on both."""
    address = [f"hydra.launcher.ray.init.address={cluster}", "+hydra.launcher.ray.init.object_store_memory=null"]
    check_simulated(bench, simulate(bench, "hydra/launcher=ray", *address, "+hydra.launcher.ray.remote.scheduling_strategy=SPREAD"))


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("harness.study", ["study=quick", "study.groups=[]"], "study quick is empty"),
        ("harness.study", ["study=quick", "do=[simulate]"], "no cell has a measured run"),
        ("harness.study", ["study=quick", "do=[meassure]"], "meassure is none of measure, simulate, report"),
        ("harness.study", ["study=quick", "hydra/launcher=rq"], "known: basic, joblib"),
        ("harness", ["-m", "engine=vllm_cpu,sglang_cpu", "hydra/launcher=joblib"], "several engines at once"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, module: str, words: list[str], said: str) -> None:
    done = call(bench, *words, module=module)
    assert done.returncode == 1, done.stdout
    assert said in one_line(done)
    assert not bench.runs.exists()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("-m study=quick,fidelity_cpu hydra/launcher=joblib", True),
        ("--multirun load.rho=0.3,0.6 hydra/launcher=ray", True),
        ("engine=vllm_cpu,sglang_cpu hydra.mode=MULTIRUN hydra/launcher=submitit_local", True),
        ("-m engine=recorded engine.run=a,b hydra/launcher=joblib", False),
        ("-m engine=vllm,sglang hydra/launcher=submitit_slurm", False),  # Slurm gives each job cores and GPUs of its own
        ("-m load.rho=0.3,0.6", False),  # one after another
        ("study=quick hydra/launcher=joblib", False),  # its simulations only
    ],
)
def test_real_engines_are_not_measured_side_by_side(words: str, refused: bool) -> None:
    assert (launchers.refusal(words.split(), measures=True) is not None) == refused
    assert launchers.refusal(words.split(), measures=False) is None


def test_a_sweep_in_a_cell_makes_a_bench_of_each_value() -> None:
    group = Group(name="g", overrides=[], cells=[["workload=a,b", "load.rho=0.3,0.6", "repeat=1"], ["simulator=[x,y]"]])
    assert list(group.benches()) == [
        ["workload=a", "load.rho=0.3", "repeat=1"],
        ["workload=a", "load.rho=0.6", "repeat=1"],
        ["workload=b", "load.rho=0.3", "repeat=1"],
        ["workload=b", "load.rho=0.6", "repeat=1"],
        ["simulator=[x,y]"],
    ]


@pytest.fixture
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def names(study: str) -> list[str]:
    plan: Study = instantiate(compose("study", [f"study={study}"]).study, _convert_="all")
    return [task.name for task in plan.tasks([])]


def test_where_a_traces_file_is_missing_the_synthetic_workload_takes_its_place(
    hydra: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_DATA", str(tmp_path))
    assert "vllm-azure_conv_like-rho0.60-0" in names("quick")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "azure_llm_2023_conv.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    assert "vllm-azure_conv_tiny-rho0.60-0" in names("quick")


def test_fidelity_cpu_has_the_grid_that_was_asked_for(hydra: None) -> None:
    found = names("fidelity_cpu")
    for engine in ("vllm", "sglang"):
        cells = [name.rpartition("-")[0] for name in found if re.match(rf"{engine}-(azure|mooncake)", name) and "-rho" in name]
        loads = {(cell.split("-rho")[0].split("-")[1].rpartition("_")[0], cell.split("-rho")[1]) for cell in cells}
        assert loads == {(w, rho) for w in ("azure_conv", "azure_code", "mooncake") for rho in ("0.30", "0.60", "0.80", "0.95", "1.10")}
        assert sum(cells.count(cell) >= 5 for cell in set(cells)) == 2


NOISY = (CONF, "study=noisy", "do=[measure]", "repeat.metrics=[tpot]")


def test_repeats_go_on_until_the_interval_is_as_narrow_as_asked_or_their_number_is_spent(bench: Bench) -> None:
    """Runs take 1, 1.5, 1, 1.5, ... times as long, so half of the interval is 62, 37 and 28 % of the mean with three, four and five."""
    done = call(bench, *NOISY, "repeat.until=0.32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(run.repeat for run in runs(bench)) == [0, 1, 2, 3, 4]
    assert len({run.config["study"]["cell"] for run in runs(bench)}) == 1 and len({run.trace.sha256 for run in runs(bench)}) == 1
    assert done.stdout.count("engine       start") == 1
    again = call(bench, *NOISY, "repeat.until=0.05", "repeat.most=6")
    assert again.returncode == 0, again.stdout + again.stderr
    assert sorted(run.repeat for run in runs(bench)) == [0, 1, 2, 3, 4, 5] and len(started(again.stdout)) == 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("repeat.until=5", "repeat.until must be between 0 and 1"),
        ("repeat.most=1", "repeat.most must be a whole number >= 2"),
        ("repeat.metrics=[tpott]", "repeat.metrics must be some of ttft, tpot"),
    ],
)
def test_a_wrong_setting_of_repeats_is_one_line(bench: Bench, word: str, said: str) -> None:
    done = call(bench, CONF, "study=toy", word)
    assert done.returncode == 1 and said in one_line(done)
