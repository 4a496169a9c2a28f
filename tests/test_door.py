"""./plumbline: verbs, arguments, exit codes, folders, and the environment that it makes; and the Makefile's targets that call it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from results.project.folder import ROOT
from results.storage.store import write_run
from tests import project_copy
from tests.runs import make_pair

VERBS = {
    "bench": ("harness.__main__", []),
    "search": ("harness.search.__main__", []),
    "study": ("harness.study", []),
    "campaign": ("harness.campaign", []),
    "simulate": ("harness.simulate", []),
    "plan": ("simulators.native.__main__", []),
    "compare": ("analysis.comparison.__main__", []),
    "simulator": ("simulators.conformance.__main__", []),
    "recordings": ("results.catalogue.__main__", []),
    "import": ("results.__main__", ["import"]),
    "unpack": ("results.__main__", ["unpack"]),
    "database": ("results.__main__", ["build"]),
    "list": ("results.__main__", ["list"]),
    "show": ("results.__main__", ["show"]),
    "report": ("analysis.__main__", ["report"]),
    "table": ("analysis.__main__", ["table"]),
    "doctor": ("harness.doctor", []),
}
AWKWARD = ["a b", "", "*", "'x'", '"y"', "$HOME", "k=[1, 2]", "overrides=['p q']", "--cfg", "\\"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell of the project whose core environment is made."""
    folder = project_copy.shell(tmp_path_factory.mktemp("a project"))
    done = door(folder, "list")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("plumbline: making the core environment") and done.stderr.count("\n") == 1
    assert said(done)["python"] == str(folder / ".envs" / "core")
    return folder


def door(project: Path, *words: str, cwd: Path | None = None, **environ: str) -> "subprocess.CompletedProcess[str]":
    command, clean = [str(project / "plumbline"), *words], {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "PYTHONHASHSEED")}
    return subprocess.run(command, cwd=cwd or project, env=clean | environ, capture_output=True, text=True, timeout=540)


def said(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The line of the module that was started."""
    line: dict[str, Any] = json.loads(done.stdout)
    return line


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_verbs_are_listed_without_an_environment(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = door(project_copy.shell(tmp_path), *words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == list(VERBS) and all(len(line.split()) > 3 and len(line) <= 120 for line in lines)
    assert not (tmp_path / ".envs" / "core").exists()


@pytest.mark.parametrize(
    ("verb", "near"), [("bnech", "did you mean bench?"), ("reprot", "did you mean report?"), ("xyzzy", "there are bench")]
)
def test_an_unknown_verb_is_one_line_with_the_near_ones(project: Path, verb: str, near: str) -> None:
    """Exit code 1, as for every other thing that is asked wrongly: 2 means that a measured run is INVALID."""
    done = door(project, verb, "load.rho=0.8")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"plumbline: no verb is called '{verb}'") and near in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_its_module_and_arguments_pass_untouched(project: Path, verb: str) -> None:
    done = door(project, verb, *AWKWARD)
    module, first = VERBS[verb]
    assert done.stderr == ""
    assert (said(done)["module"], said(done)["argv"]) == (module, [*first, *AWKWARD])
    assert said(done)["PYTHONHASHSEED"] == "0"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_exit_codes_are_the_command_s(project: Path, code: int) -> None:
    assert door(project, "bench", CODE=str(code)).returncode == code


def test_no_process_stands_in_between(project: Path) -> None:
    with subprocess.Popen([project / "plumbline", "plan"], cwd=project, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=540)
    assert json.loads(out)["pid"] == process.pid


def test_it_works_from_any_folder_and_says_where_the_caller_is(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(project / "plumbline")
    here = said(door(project, "list", PLUMBLINE_CALLER="/stale"))
    assert (here["cwd"], here["PLUMBLINE_CALLER"]) == (str(project), None)
    for command in (project / "plumbline", link):
        done = subprocess.run([command, "list"], cwd=tmp_path, capture_output=True, text=True, timeout=540)
        assert (said(done)["cwd"], said(done)["PLUMBLINE_CALLER"]) == (str(project), str(tmp_path))
    done = subprocess.run(["bash", "plumbline", "list"], cwd=project, capture_output=True, text=True, timeout=540)
    assert said(done)["cwd"] == str(project)
    environ = os.environ | {"PATH": f"{project}:{os.environ['PATH']}"}
    done = subprocess.run(["plumbline", "list"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=540)
    assert said(done)["cwd"] == str(project)


def test_a_stale_environment_is_made_anew_and_then_left_alone(tmp_path: Path) -> None:
    project = project_copy.shell(tmp_path)
    assert "making the core environment" in door(project, "list").stderr
    mark = project / ".envs" / "core" / "mark"
    mark.touch()
    assert door(project, "list").stderr == "" and mark.exists()
    os.utime(project / ".envs" / "core" / ".ready", (1, 1))  # older than conf/envs/core.txt
    assert "making the core environment" in door(project, "list").stderr and not mark.exists()
    (project / ".envs" / "core" / "bin" / "python").unlink()  # half of it is gone
    assert "making the core environment" in door(project, "list").stderr
    assert door(project, "list").stderr == ""


def test_an_environment_that_cannot_be_made_is_told_in_a_line_and_the_doctor_still_comes(tmp_path: Path) -> None:
    project = project_copy.shell(tmp_path)
    (project / "conf" / "envs" / "core.txt").write_text("toy @ file:///nowhere/toy-1.0-py3-none-any.whl\n")
    done = door(project, "bench")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("plumbline: the core environment could not be made; .envs/core.log says why")
    assert "nowhere" in (project / ".envs" / "core.log").read_text()
    done = door(project, "doctor", "--json")
    assert (done.returncode, done.stderr, said(done)["module"], said(done)["argv"]) == (0, "", "harness.doctor", ["--json"])


def make(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    return subprocess.run(["make", *words], cwd=project, env=clean, capture_output=True, text=True, timeout=540)


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["bench", "load.rho=0.8", "seed=1"], [("harness.__main__", ["load.rho=0.8", "seed=1"])]),
        (["bench", "simulator=[vidur,native]"], [("harness.__main__", ["simulator=[vidur,native]"])]),
        (["study", "study=quick"], [("harness.study", ["study=quick"])]),
        (["bench-gpu", "until=540"], [("harness.campaign", ["until=540"])]),
        (["bench-gpu", "out=wheels"], [("harness.campaign", ["out=wheels"]), ("results.__main__", ["unpack", "wheels"])]),
        (["report"], [("results.__main__", ["build"]), ("analysis.__main__", ["report"])]),
        (["database"], [("results.__main__", ["build"])]),
    ],
)
def test_make_s_targets_call_the_door(project: Path, words: list[str], called: list[tuple[str, list[str]]]) -> None:
    done = make(project, *words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["module"], sorted(line["argv"])) for line in lines] == [(module, sorted(argv)) for module, argv in called]


@pytest.mark.parametrize(
    "words", [("bench", "foo"), ("foo", "bench"), ("bench", "load.rho=0.8", "foo"), ("study", "foo"), ("bench-gpu", "foo")]
)
def test_a_word_that_is_no_setting_starts_nothing(project: Path, words: tuple[str, ...]) -> None:
    done = make(project, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "plumbline: foo is no setting: give KEY=VALUE" in done.stderr


def test_make_help_lists_the_targets(project: Path) -> None:
    done = make(project, "help")
    assert done.returncode == 0 and "make bench " in done.stdout and make(project).stdout == done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole copy of the project."""
    return project_copy.whole(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_that_names_it(whole: Path, verb: str) -> None:
    done = door(whole, verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"./plumbline {verb}" in done.stdout and len(done.stdout.splitlines()) > 5
    assert "Powered by Hydra" not in done.stdout
    if VERBS[verb][0].startswith("harness") and verb != "doctor":
        assert f"conf/{'bench' if verb == 'simulate' else verb}.yaml" in done.stdout and "--cfg job" in done.stdout


def test_the_help_of_a_bench_has_every_choice_and_what_it_is(whole: Path) -> None:
    told = door(whole, "bench", "--help").stdout
    for group in ("engine", "model", "hardware", "workload", "simulator", "calibration"):
        assert all(path.stem in told for path in (ROOT / "conf" / group).glob("*.yaml"))
    assert "vllm_cpu*" in told and "load.rho=0.6" in told and max(map(len, told.splitlines())) <= 100


@pytest.mark.parametrize("elsewhere", [False, True], ids=["from the root", "from another folder"])
def test_relative_paths_are_the_caller_s_and_results_the_project_s(whole: Path, tmp_path: Path, elsewhere: bool) -> None:
    folder = tmp_path if elsewhere else whole
    measured, _ = make_pair()
    write_run(folder / "stored", measured)
    (folder / "trace.csv").write_text("arrival,input_tokens,output_tokens\n0.0,10,5\n0.5,12,6\n1.0,9,4\n")
    done = door(whole, "plan", "trace=trace.csv", "model=tiny", "hardware=cpu", "out=planned", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "") and len(list((folder / "planned").iterdir())) == 1
    done = door(whole, "database", "--root", "stored", "--database", "my.duckdb", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "") and (folder / "my.duckdb").is_file()
    assert measured.run_id in door(whole, "list", "--database", "my.duckdb", cwd=folder).stdout
    done = door(whole, "report", "--database", "my.duckdb", "--out", "my.html", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "") and (folder / "my.html").is_file()
    words = (
        "engine=recorded",
        "paths.measured=stored",
        f"engine.run=stored/{measured.run_id}",
        "simulator=[]",
        "report.out=page.html",
    )
    done = door(whole, "bench", *words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "page.html").is_file()
    assert (whole / "results" / "plumbline.duckdb").is_file()  # not named on the command line: the project's
    if elsewhere:
        assert {path.name for path in folder.iterdir()} == {"stored", "trace.csv", "planned", "my.duckdb", "my.html", "page.html"}


def test_a_recording_is_imported_from_where_one_stands(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "requests.csv").write_text("request_id\n")
    done = door(whole, "import", "requests.csv", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert str(tmp_path / "requests") in done.stderr  # it was looked at there


@pytest.mark.parametrize("words", [("--config-dir=config",), ("--config-dir", "config")])
def test_a_folder_of_own_choices_is_the_caller_s(whole: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    odd = tmp_path / "it's odd, (very)"
    (odd / "config" / "slo").mkdir(parents=True)
    (odd / "config" / "slo" / "mine.yaml").write_text("_target_: results.record.SLO\nttft: 0.125\n")
    done = door(whole, "bench", *words, "--cfg", "job", "slo=mine", "workload=csv", "workload.source.path=a.csv", cwd=odd)
    assert done.returncode == 0, done.stderr
    assert "ttft: 0.125" in done.stdout and f"path: {odd}/a.csv" in " ".join(done.stdout.split())
