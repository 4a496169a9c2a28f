"""The study of measured points by its command: made-up points in, one file of predictions and a page out; without the sample one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from results.silicon.predictions import read
from tests import project_copy
from tests.silicon import sample_row, write_sample


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_copy.whole(tmp_path_factory.mktemp("project"))


def study(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environ = os.environ | {"PYTHONPATH": str(project), "COLUMNS": "200"}
    few = ["study.predictors.native.processes=1", "study.predictors.native.protocols.closed.rounds=2"]
    command = [sys.executable, "-m", "harness.study", "study=silicon", *few, *words]
    return subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=540, check=False)


def test_points_are_predicted_and_what_cannot_be_is_told(project: Path, tmp_path: Path) -> None:
    sample = write_sample(
        tmp_path,
        sample_row(id="ours"),
        sample_row(id="sglang", backend="sglang"),
        sample_row(id="half", model_path="Qwen/Qwen3-32B", tp_size="2.0"),
        sample_row(id="strange", model_path="somebody/model"),
        sample_row(id="elsewhere", system="tpu"),
    )
    done = study(project, f"study.sample={sample}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measured points of real GPUs" in done.stdout
    rows = read(project / "results" / "studies" / "silicon" / "predictions.parquet")[0].to_pylist()
    beside = [row for row in rows if row["predictor"] == "aisimulate"]  # whose wheel has none of these models
    assert len(beside) == 5 and all(row["fitted_on"] == "" and row["reason"].startswith("aisimulate: ") for row in beside)
    rows = [row for row in rows if row["predictor"] == "native"]
    assert {row["fitted_on"] for row in rows} == {"", "A", "B"} and len(rows) == 5 * 3
    told = {row["point_id"]: row["reason"] for row in rows}
    assert "somebody/model" in told["strange"] and "tpu" in told["elsewhere"] and told["ours"] is told["half"] is None
    plain = next(row for row in rows if row["point_id"] == "ours" and row["fitted_on"] == "")
    assert 0.002 < plain["tpot"] < 0.1 and plain["ttft"] > plain["tpot"] and plain["half"] == "A"
    page = (project / "results" / "silicon.html").read_text()
    assert "somebody/model" in page


def test_without_the_sample_there_is_one_line(project: Path, tmp_path: Path) -> None:
    done = study(project, f"study.sample={tmp_path}/none.csv")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "silicon sample:" in done.stderr and "installs it" in done.stderr
