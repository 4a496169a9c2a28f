"""The scorecard: its numbers are those of the single runs, and nothing is made up where there are few runs or no check."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from analysis import data, tables
from analysis.__main__ import main
from analysis.data import AnalysisError
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from analysis.study import scorecard
from results.database import connect
from results.project.folder import ROOT
from results.storage.conformance import Conformance, Found
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run
from tests.studies import build_study, make_study

ERRORS = """
    SELECT error FROM fidelity JOIN runs ON run_id = fidelity.measured_run_id AND valid
    WHERE fidelity.system = 'vidur' AND fidelity.track = 'matched'
"""
MANY = 11  # runs of a simulator: more than FEW


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of eleven valid cells (the last load's is INVALID), of which AISimulate has four; Vidur says what memory it took."""
    runs = list(make_study(engines=("vllm",), workloads=("azure_conv_like",), loads=tuple(0.1 * i for i in range(1, MANY + 2)), repeats=1))
    kept, seen = [], 0
    for run in runs:
        seen += run.system == "aisimulate"
        if run.system == "vidur":
            simulator = {**run.config["simulator"], "timing": {"peak_memory": 2.5e8}}
            run = dataclasses.replace(run, config={**run.config, "simulator": simulator}, wall_s=3.0)
        if run.system != "aisimulate" or seen <= 4:
            kept.append(run)
    database = build_study(tmp_path_factory.mktemp("scorecard"), kept)
    score(database, Bootstrap(resamples=100))
    return database


def kit(version: str) -> Conformance:
    cases = [
        Found(name="a", row="preemption", shows="", control=False, outcome="fails", says=""),
        Found(name="b", row="kv_limit", shows="", control=False, outcome="holds", says=""),
        Found(name="c", row=None, shows="", control=False, outcome="holds", says=""),
    ]
    declared = {"preemption": "yes", "kv_limit": "yes", "gqa": "no"}
    return Conformance(system="vidur", version=version, checked="2026-01-01", settings=(), declared=declared, cases=tuple(cases))  # type: ignore[arg-type]


def test_errors_are_those_of_the_runs(scored: Path, tmp_path: Path) -> None:
    with connect(scored) as connection:
        frame = scorecard.numbers(connection, scored, "handmade", tmp_path)
        errors = data.rows(connection, f"{ERRORS} AND metric = 'tpot' AND stat = 'mean'")
        singles = data.rows(connection, f"{ERRORS} AND metric = 'ttft' AND stat = 'mape'")
    [row] = frame[frame["system"].eq("vidur") & frame["track"].eq("matched")].to_dict("records")
    sizes = np.abs([one["error"] for one in errors])
    assert (row["runs"], row["asked"], len(sizes)) == (MANY, MANY, MANY)
    assert row["tpot_median"] == pytest.approx(np.median(sizes)) and row["tpot_p90"] == pytest.approx(np.quantile(sizes, 0.9))
    assert row["ttft_mape"] == pytest.approx(np.median([one["error"] for one in singles]))
    assert row["seconds"] == pytest.approx(1000 * 3.0 / 60) and row["memory"] == 2.5e8
    assert list(frame[frame["system"].eq("vidur")]["track"]) == ["shipped", "matched", "calibrated"]


def test_of_few_runs_the_worst_is_told_and_each_says_how_many(scored: Path, tmp_path: Path) -> None:
    with connect(scored) as connection:
        frame = scorecard.numbers(connection, scored, "handmade", tmp_path)
    text = scorecard.as_text(frame).set_index("simulator")
    assert text.loc["AISimulate (matched)", "runs"] == f"4/{MANY}" and "(worst " in str(
        text.loc["AISimulate (matched)", "TTFT median (p90)"]
    )
    assert text.loc["Vidur (matched)", "runs"] == f"{MANY}/{MANY}" and "worst" not in str(text.loc["Vidur (matched)", "TTFT median (p90)"])
    assert (text.loc["Vidur (matched)", "memory (MB)"], text.loc["AISimulate (matched)", "memory (MB)"]) == ("250", "–")
    assert text.loc["Vidur (matched)", "licence"] == "MIT"


def test_measured_coverage_is_shown_of_the_version_that_was_scored(scored: Path, tmp_path: Path) -> None:
    shown = {}
    for version in ("0.0.2", "0.0.3"):
        kit(version).write(tmp_path)
        with connect(scored) as connection:
            text = scorecard.as_text(scorecard.numbers(connection, scored, None, tmp_path)).set_index("simulator")
        shown[version] = text.loc["Vidur (matched)", "measured yes/partly/no"]
    assert shown == {"0.0.2": "1/0/1", "0.0.3": "–"}
    dataclasses.replace(kit("0.0.2"), system="vidur_v0_0").write(tmp_path)  # one of its releases, checked on its own
    with connect(scored) as connection:
        text = scorecard.as_text(scorecard.numbers(connection, scored, None, tmp_path)).set_index("simulator")
    assert text.loc["Vidur (matched)", "measured yes/partly/no"] == "1/0/1"
    (tmp_path / "vidur_v0_0.json").unlink()
    covered = scorecard.coverage(tmp_path)
    assert list(covered.columns) == ["", "Vidur 0.0.3"]
    assert covered["Vidur 0.0.3"].tolist() == ["yes, measured no", "yes", "no, not tried", "1 of 1"]


def test_the_command_prints_it(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["table", "--scorecard", "--study", "handmade", "--database", str(scored)])
    printed = capsys.readouterr().out
    assert printed.startswith("| simulator | runs |") and "Plumbline native (calibrated)" in printed


def test_what_cannot_be_shown_is_one_line(scored: Path, make_database: MakeDatabase, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no study is called handmad; there is handmade"):
        main(["table", "--scorecard", "--study", "handmad", "--database", str(scored)])
    lone = make_database(make_run())
    with pytest.raises(SystemExit, match=r"no simulated run is scored; simulate some first"):
        main(["table", "--scorecard", "--database", str(lone)])
    (tmp_path / "vidur.json").write_text("{")
    with connect(scored) as connection, pytest.raises(AnalysisError, match=r"vidur.json: not a conformance file"):
        scorecard.numbers(connection, scored, None, tmp_path)


def test_the_page_has_the_coverage_that_was_measured() -> None:
    """docs/simulators.md shows the files of results/conformance as they are."""
    assert tables.markdown(scorecard.coverage()).strip() in (ROOT / "docs" / "simulators.md").read_text()
