"""A study of recordings: every one that is here is imported once, repeats share a cell, a closed loop says so; what cannot be is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from results import database
from results.record import Run
from results.storage.store import read_run, run_folders
from tests import project_copy

ABOUT = """
system: vllm
version: 0.23.0
model: llama_3_1_8b
hardware: h100
started_at: 2026-06-23T03:05:31Z
limits:
  kv_tokens: 100000
  block_size: 16
  max_num_seqs: 64
  max_num_batched_tokens: 2048
  max_model_len: 4096
  chunked_prefill: true
  prefix_caching: false
"""
ROWS = [
    "arrival,input_tokens,output_tokens,first_token,finished",
    *(f"{n / 2},200,20,{n / 2 + 0.05},{n / 2 + 0.4 + n / 1000}" for n in range(30)),
]
HERE = ("h100_qwen3_14b/sweep_rate-agg_2rps-vanilla", "h100_qwen3_14b/sweep_rate-agg_2rps-patched", "l40s_qwen2.5_7b/per-token-qwen2.5_7b")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, so that nothing that was fetched here counts, and three recordings of the catalogue, made up."""
    folder = project_copy.whole(tmp_path_factory.mktemp("project"))
    for name in HERE:
        recording(folder, name)
    return folder


def recording(project: Path, name: str) -> None:
    place = project / "data" / "recordings" / name
    place.mkdir(parents=True)
    (place / "requests.csv").write_text("\n".join(ROWS) + "\n")
    (place / "run.yaml").write_text(ABOUT)


def study(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environ = os.environ | {"PLUMBLINE_DATA": str(project / "data"), "PYTHONPATH": str(project), "COLUMNS": "200"}
    given = ["study=gpu_recordings", "study.simulators=[native]", "study.simulation=[]", "hydra/launcher=basic", *words]
    command = [sys.executable, "-m", "harness.study", *given]
    return subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=540, check=False)


def stored(project: Path) -> list[Run]:
    return [read_run(folder) for folder in run_folders(project / "results" / "runs")]


def test_every_recording_that_is_here_is_imported_and_simulated_once(project: Path) -> None:
    done = study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not available: native:calibrated, 3 runs: " in done.stdout, "one line, whatever run it was said of"
    runs = stored(project)
    measured = {run.config["recording"]["run"]: run for run in runs if run.kind == "measured"}
    assert sorted(measured) == sorted(name.partition("/")[2] for name in HERE)
    vanilla, patched, closed = (measured[name.partition("/")[2]] for name in HERE)
    assert vanilla.config["study"]["cell"] == patched.config["study"]["cell"] != closed.config["study"]["cell"]
    assert (vanilla.repeat, patched.repeat, vanilla.rate, closed.rate) == (0, 1, 2.0, None)
    assert (vanilla.config["load"]["loop"], closed.config["load"]["loop"]) == ("open", "closed")
    assert closed.window is not None and closed.window[0] == 8.0  # the first 16 requests are cold
    simulated = [run for run in runs if run.kind == "simulated"]
    assert {run.measured_run_id for run in simulated} == {run.run_id for run in measured.values()}
    assert {"shipped", "matched"} <= {run.track for run in simulated if run.measured_run_id == vanilla.run_id}
    with database.connect(project / "results" / "plumbline.duckdb") as connection:
        found = connection.execute(
            "SELECT count(DISTINCT cell), count(noise) > 0 FROM fidelity JOIN runs ON run_id = simulated_run_id"
        ).fetchone()
    assert found == (2, True), "the spread of the two repeats is the noise floor"
    page = (project / "results" / "study.html").read_text()
    assert "What simulators did not give" in page and "first repeat" not in page

    again = study(project, "do=[measure,simulate]")
    assert again.returncode == 0 and "task " not in again.stdout and len(stored(project)) == len(runs)


def test_a_slow_simulator_takes_one_repeat_of_each_cell_with_settings_of_its_own(project: Path) -> None:
    for folder in run_folders(project / "results" / "runs"):
        if "--native-" in folder.name:
            shutil.rmtree(folder)
    only = [
        "study.once=[native]",
        "+study.own.native=['simulators.native.frontend_after=0.25']",
        "study.tracks=[matched]",
        "study.recordings=[h100*]",
    ]
    done = study(project, *only)
    assert done.returncode == 0, done.stdout + done.stderr
    simulated = [run for run in stored(project) if run.kind == "simulated"]
    assert [run.config["recording"]["run"] for run in simulated] == ["sweep_rate-agg_2rps-vanilla"]
    assert simulated[0].config["simulator"]["settings"]["frontend_after"] == 0.25, "as configured for it alone"
    assert "only the first repeat was given to Plumbline native" in (project / "results" / "study.html").read_text()


def test_a_recording_that_cannot_be_imported_yet_is_left_out_with_the_reason(project: Path) -> None:
    recording(project, "rtxpro6000_qwen3_30b_a3b")
    entry = project / "conf" / "recording" / "rtxpro6000_qwen3_30b_a3b.yaml"
    entry.write_text(entry.read_text() + "not_yet: nobody has looked at it\n")
    done = study(project, "study.recordings=[rtxpro*,h100*]", "show=true")
    assert done.returncode == 0 and "rtxpro6000_qwen3_30b_a3b: left out: " in done.stdout
    assert "h100_qwen3_14b-sweep_rate-agg_2rps-vanilla" in done.stdout and "l40s" not in done.stdout


def test_without_a_recording_one_line_says_how_to_get_one(project: Path) -> None:
    done = study(project, "study.recordings=[a40*]", "do=[measure]")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "./plumbline recordings fetch NAME" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study.recordings=[h100_qwen3]"], "no recording is called 'h100_qwen3'; there is h100_qwen3_14b"),
        (["study.tracks=[match]"], "study.tracks must be a list of shipped, matched, calibrated, oracle, got ['match']"),
        (["study.simulators=[nativ]"], "simulator=nativ: conf/simulator/ has no nativ.yaml; did you mean native"),
    ],
)
def test_names_that_there_are_not(project: Path, words: list[str], said: str) -> None:
    done = study(project, *words)
    assert done.returncode == 1
    assert said in done.stderr
