"""The label that a study's store gives to a run."""

from pathlib import Path

from omegaconf import OmegaConf

from harness.grid.plan import Task
from harness.grid.study_store import StudyStore
from results.record import SLO
from results.storage.store import read_run, run_folders
from tests.runs import make_run, make_trace


def test_copies_of_stored_runs_are_of_one_cell_only_where_they_are_repeats(tmp_path: Path) -> None:
    store = StudyStore(study="recorded", folder=tmp_path / "recorded", runs=tmp_path / "runs")
    trace = make_trace()
    stored = [make_run("a", trace=trace), make_run("b", trace=trace, repeat=1), make_run("c", trace=trace, slo=SLO(ttft=0.1))]
    for run in stored:
        task = Task(kind="recorded", name="x", key=f"{run.run_id * 12}", engine="x", seconds=1, settings=OmegaConf.create(), group="x")
        store.keep_run(task, run, None, None)
    cells = {label["copy_of"]: label["cell"] for label in (read_run(path).config["study"] for path in run_folders(tmp_path / "runs"))}
    assert cells["a"] == cells["b"] != cells["c"]
