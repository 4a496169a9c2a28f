"""Every command that the pages show is tried as the table TRIED says; one that the table does not know fails."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.cli import check_choices
from harness.command_line import launchers
from harness.grid.plan import Group
from results import database
from results.project.folder import CONF, ROOT
from results.storage.store import write_run
from simulators.native.planning import settings
from tests.docs.pages import all_commands, arguments, as_module, blocks
from tests.runs import make_pair, make_run
from tests.studies import make_study

ROOTS = {
    "bench": "bench",
    "simulate": "bench",
    "study": "study",
    "campaign": "campaign",
    "search": "search",
}  # verb to the root of its configuration
MAKES = {"bench": "bench", "bench-gpu": "campaign", "study": "study"}  # make's target to the verb that its words go to
COMMANDS = sorted(dict.fromkeys(command for _, command in all_commands()))


def composed(command: str, place: Path) -> None:
    """A command of Hydra's: each job that it stands for composes, every choice exists, and no setting is left without a value."""
    words = arguments(command)
    verb = MAKES[words[1]] if words[0] == "make" else words[1]
    chosen = [word for word in words[2:] if not word.startswith(("-", "hydra/"))]
    assert check_choices(ROOTS[verb], chosen) is None
    assert launchers.refusal(words[2:], measures=verb != "simulate") is None
    for job in Group(name="jobs", cells=[chosen]).benches() if chosen else [[]]:
        cfg = configuration(ROOTS[verb], job)
        assert not OmegaConf.missing_keys(cfg), command
        if ROOTS[verb] in ("bench", "search"):
            instantiate(cfg, _convert_="all")
        else:
            configuration("bench", list(cfg.overrides))


def configuration(root: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config_name=root, overrides=list(overrides))


def dry_run(command: str, place: Path) -> None:
    """A target of make: it is there, and the words that follow it compose."""
    words = arguments(command)
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".envs/core/.ready", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    if words[1] in MAKES:
        composed(command, place)


def planned(command: str, place: Path) -> None:
    """A comparison of our own simulator, with few requests: every combination has an answer."""
    words = [word for word in arguments(command)[2:] if "=" in word]
    combinations = len(list(settings.swept(words)))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        as_module([*arguments(command), "requests=300"]), cwd=place, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stderr}"
    assert done.stdout.count(" to ") == combinations, done.stdout


def recommended(command: str, place: Path) -> None:
    """A recommendation, with few requests: something meets the limits."""
    words = arguments(command)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    few = ["requests=100", "limits.max_num_seqs=256", "limits.max_num_batched_tokens=2048"]
    done = subprocess.run(as_module([*words, *few]), cwd=place, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "this is the cheapest" in " ".join(done.stdout.split()), f"{command}:\n{done.stdout}{done.stderr}"


def in_minutes(command: str, place: Path) -> None:
    """A day that is over in two minutes, from short simulations: it has an answer for both fleets."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    few = ["day.seconds=120", "requests=1000"]
    done = subprocess.run(as_module([*arguments(command), *few]), cwd=place, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "GPU-hours a day" in done.stdout and "720 times as fast" in done.stdout, f"{command}:\n{done.stderr}"


def runs(command: str, place: Path) -> None:
    """A command that takes a second or two: run in a folder that has runs, studies and a recording."""
    words = [str(place.joinpath("run_id").read_text()) if word == "RUN_ID" else word for word in arguments(command)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(as_module(words), cwd=place, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip(), f"{command}:\n{done.stderr}"


def shell(command: str, place: Path) -> None:
    """What is done with a network or on another machine: its shell is well formed."""
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def covered_by(node: str) -> Callable[[str, Path], None]:
    """A test that runs it, or what it stands for, elsewhere: the test is there."""

    def there(command: str, place: Path) -> None:
        path, _, name = node.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{command}: there is no {node}"

    return there


def door(command: str, place: Path) -> None:
    """A verb that is no module of its own: the launcher at the root knows it, where there is one."""
    if (ROOT / "plumbline").is_file():
        words = [*arguments(command)[:2], "--help"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr


IN_RECIPES = covered_by("tests/docs/test_recipes.py::test_the_recipes_as_written_print_what_they_say")
IN_RECORDINGS = covered_by("tests/simulators/native/test_recordings.py::test_latencies_are_the_recorded_ones")
FETCHED = covered_by("tests/results/catalogue/test_catalogue.py::test_a_fetched_run_has_the_times_that_its_source_says")
IN_STORAGE = covered_by("tests/results/storage/test_object_storage.py::test_the_database_is_the_same_as_that_of_a_folder")
IN_CAMPAIGN = covered_by("tests/test_campaign.py::test_a_campaign_killed_midway_goes_on_where_it_stopped")
IN_TABLES = covered_by("tests/simulators/calibration/test_efficiencies.py::test_the_command_prints_each_kind")
IN_KIT = covered_by("tests/simulators/conformance/test_conformance.py::test_our_own_simulator_models_what_it_says_and_the_command_keeps_it")
IN_CLIENTS = covered_by("tests/harness/replay/test_load_clients.py::test_the_command_prints_a_row_for_each_client_that_it_runs")
OF_COMMITS = covered_by("tests/analysis/comparison/test_command.py::test_git_states_of_an_engine_are_the_runs_that_say_so")
BARE = covered_by("tests/test_campaign.py::test_a_measuring_machine_needs_no_database_plots_or_package_installer")

# How a command is tried; the first pattern that matches all of it counts.
TRIED: tuple[tuple[str, Callable[[str, Path], None]], ...] = (
    (r"\./plumbline doctor", door),
    (r"\./plumbline bench (--help|--cfg job)", runs),
    (r"\./plumbline bench .*(engine=toy|engine=command|simulator=\[slots\]).*", IN_RECIPES),
    (r"\./plumbline (bench|study|simulate|campaign|search)( .*)?", composed),
    (r"\./plumbline simulator check .*", IN_KIT),
    (r"\./plumbline plan (model|capacity).*", runs),
    (r"\./plumbline plan compare .*", planned),
    (r"\./plumbline compare git:.*", OF_COMMITS),
    (r"\./plumbline compare .*", runs),
    (r"\./plumbline plan recommend .*", recommended),
    (r"\./plumbline plan day .*", in_minutes),
    (r"\./plumbline import (my_recording|vllm_bench\.json|guidellm\.json|predictions\.csv) .*", runs),
    (r"\./plumbline import \.\./shared/.*", IN_RECORDINGS),
    (r"\./plumbline recordings fetch .*", FETCHED),
    (r"\./plumbline recordings( .*)?", runs),
    (r"\./plumbline (list|show|report|table)( .*)?", runs),
    (r"make (bench|bench-gpu|study|test|lint|perf|setup|simulators|database|report)( .*)?", dry_run),
    (r"\./plumbline database --runs s3://.*", IN_STORAGE),
    (r"\./plumbline unpack .*", IN_CAMPAIGN),
    (r"python3 -m harness\.campaign .*", BARE),
    (r"\.envs/core/bin/python -m simulators\.calibration\.efficiencies", IN_TABLES),
    (r"\.envs/core/bin/python -m tests\.perf\.load_clients( .*)?", IN_CLIENTS),
    (r"\.envs/core/bin/python -m pytest .*", shell),
    (r"(pip|platforms=|export |for |tar ).*", shell),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bench, the studies that the pages name, a recording in the plain form as docs/importing.md has it, files of tools."""
    folder = tmp_path_factory.mktemp("commands")
    stored = folder / "results" / "runs"
    measured, simulated = make_pair()
    few: dict[str, Any] = {"workloads": ("azure_conv_like",), "loads": (0.3, 0.9), "repeats": 2}
    studies = (make_study(name="quick", engines=("vllm",), **few), make_study(name="fidelity_cpu", engines=("sglang",), **few))
    for run in (measured, simulated, *studies[0], *studies[1]):
        write_run(stored, run)
    database.build([stored], folder / "results" / "plumbline.duckdb")
    for build in ("before", "after"):
        write_run(folder / "results" / build, make_run(build, rho=None, telemetry=False))
    (folder / "run_id").write_text(measured.run_id)
    predicted = [f"{r.request_id},{r.first_token},{r.finished}" for r in simulated.records]
    (folder / "predictions.csv").write_text("\n".join(["request_id,first_token,finished", *predicted]) + "\n")
    (folder / "my_recording").mkdir()
    (folder / "my_recording" / "requests.csv").write_text(
        "arrival,input_tokens,output_tokens,first_token,finished\n0.0,120,16,0.1,0.6\n0.5,64,8,0.6,0.9\n"
    )
    [about] = [block for block in blocks(ROOT / "docs" / "importing.md") if block.language == "yaml"]
    (folder / "my_recording" / "run.yaml").write_text(about.text)
    (folder / "about.yaml").write_text("system: vllm\nmodel: tiny\nhardware: h100\n")
    tools = ROOT / "tests" / "results" / "recordings" / "files"
    shutil.copy(tools / "vllm_python_open.json", folder / "vllm_bench.json")
    shutil.copy(tools / "guidellm_concurrent.json", folder / "guidellm.json")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_the_pages_show(command: str, place: Path) -> None:
    tried = next((how for pattern, how in TRIED if re.fullmatch(pattern, command)), None)
    assert tried is not None, f"{command}: no entry of TRIED says how it is tried"
    tried(command, place)


def test_the_workflow_of_the_page_measures_and_compares(place: Path) -> None:
    [block] = [block for block in blocks(ROOT / "docs" / "compare.md") if block.language == "yaml"]
    [job] = yaml.safe_load(block.text)["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    tried_commands = []
    for script in scripts:
        shell(script, place)
        lines = script.replace("\\\n", " ").splitlines()
        tried_commands += [line.strip() for line in lines if line.strip().startswith("./plumbline")]
    measured, *compared = tried_commands
    for build in ("before", "after"):
        composed(measured.replace("$repeat", "1").replace("$build", build), place)
    for command in compared:
        runs(command.partition(" >>")[0], place)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in TRIED])
def test_an_entry_of_the_table_has_a_command(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command) for command in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [
        "./plumbline bench workload=azure_kode",
        "./plumbline bench load.rho=0.9 load.rate=2",
        "./plumbline bench engine=sglang",
        "./plumbline bench enginee.max_num_seqs=3",
        "./plumbline study study=quickk",
        "./plumbline campaign overrides=['profile.budgett=4']",
        "./plumbline plan compare model=qwen3_32b hardware=h1000",
        "make benchmark",
        "./plumbline show NO_RUN",
        "for wheel in engine/*.whl; do",
    ],
)
def test_a_wrong_command_would_be_found(command: str, place: Path) -> None:
    tried = next((how for pattern, how in TRIED if re.fullmatch(pattern, command)), None)
    if tried is not None:
        with pytest.raises((AssertionError, ValueError, HydraException, OmegaConfBaseException)):
            tried(command, place)
