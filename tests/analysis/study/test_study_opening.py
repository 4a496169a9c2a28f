"""The three sentences that a study's page opens with: computed from the scores, GPU by GPU, and no rosier than they are."""

import dataclasses
import re
from pathlib import Path

import pytest

from analysis import names
from analysis.data import open_database
from analysis.stats import Bootstrap
from analysis.study import opening, trust
from analysis.study.data import StudyData, read_study
from analysis.study.report import StudyReport
from results.record import Run
from tests.studies import build_study, make_study

METRIC, GPU = re.compile("TTFT|TPOT|E2E"), re.compile("H100|A40")
CLAUSE = re.compile(rf"((?:(?:{METRIC.pattern})(?:, | and )?)+) on ((?:(?:{GPU.pattern})(?: and )?)+)")
GPUS = {"azure_conv_like": "h100", "mooncake_like": "a40"}


def on_gpus(run: Run) -> Run:
    """A run on a GPU by its workload; those of one workload are closed loops, whose first tokens come late in every simulation."""
    gpu = GPUS[run.workload]
    if gpu == "a40" and run.kind == "simulated":
        late = [(r, 0.4 * (r.first_token or 0.0) - 0.4 * r.arrival) for r in run.records]
        moved = (dataclasses.replace(r, first_token=(r.first_token or 0.0) + by, finished=(r.finished or 0.0) + by) for r, by in late)
        run = dataclasses.replace(run, records=tuple(moved))
    load = {**run.config["load"], "loop": "closed" if gpu == "a40" else "open"}
    return dataclasses.replace(run, hardware=gpu, config={**run.config, "load": load})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    folder = tmp_path_factory.mktemp("gpus")
    runs = [on_gpus(run) for run in make_study(workloads=tuple(GPUS), loads=(0.3, 0.9), num_requests=40)]
    report = StudyReport(database=build_study(folder, runs), out=folder / "study.html", bootstrap=Bootstrap(resamples=100))
    said = report.write("handmade").verdict
    with open_database(Path(report.database)) as connection:
        found = read_study(connection, Path(report.database), "handmade")
    assert said == str(opening.opening(found))
    return found


def test_the_first_sentence_names_the_nearest_and_its_errors(study: StudyData) -> None:
    said = opening.opening(study)
    best = trust.nearest(study, opening.SHOWN)
    assert best is not None and said.headline.startswith(f"On 2 GPUs (H100 and A40), {names.system(*best.simulator)} comes nearest")
    for key in opening.SHOWN:
        [record] = [record for record in trust.records(study, key) if record.simulator == best.simulator]
        assert f"{names.percent(record.lean)} in {key[0].upper()}" in said.headline
    assert len(str(said).split()) < 90 and len(said.others) == 2


def test_a_gpu_is_named_for_a_metric_only_where_nine_of_ten_loads_are_right(study: StudyData) -> None:
    said = opening.opening(study).others[0]
    told = {gpu: set(METRIC.findall(metrics)) for metrics, gpus in CLAUSE.findall(said) for gpu in GPU.findall(gpus)}
    for gpu, cells in study.valid_cells.groupby("hardware"):
        best = trust.nearest(study, opening.SHOWN, cells)
        assert best is not None
        found = [record for key in opening.SHOWN for record in trust.records(study, key, cells) if record.simulator == best.simulator]
        assert told[names.gpu(str(gpu))] == {record.key[0].upper() for record in found if record.size <= trust.TRUST}, said
    assert told["H100"] != told["A40"]


def test_the_last_sentence_has_the_noise_and_the_closed_loops(study: StudyData) -> None:
    said = opening.opening(study).others[1]
    noise = study.scored(("tpot", "p50")).groupby("cell")["noise"].first().dropna().median()
    assert f"{names.percent(noise, sign=False)} in TPOT" in said
    assert len(study.closed) == 4 and "closed loops" in said


def test_where_nothing_can_be_compared_the_long_verdict_speaks(study: StudyData) -> None:
    nothing = dataclasses.replace(study, simulators=())
    assert "nothing was simulated" in opening.opening(nothing).headline
    invalid = dataclasses.replace(study, cells=study.cells.assign(repeats=0))
    assert opening.opening(invalid).headline.startswith("INVALID: ")
