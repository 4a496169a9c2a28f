"""The rules of a study's verdict, on scores made by hand: what bounds an error, who is compared with whom, and what the words say of it."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.data import LOST, Key, open_database
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from analysis.study import embed, findings, table, trust, words
from analysis.study.data import Simulator, StudyData, read_study
from results.record import RequestRecord, Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated

EASY, WIDE = ("native", "matched"), ("vidur", "matched")
KEY: Key = ("ttft", "p50")
FEW = Bootstrap(resamples=100)


def scored(simulator: Simulator, errors: Sequence[float], *, width: float | None = 0.01, failed: float = 0.0) -> pd.DataFrame:
    """Rows of cell_fidelity: the same error of every headline in the first cells of a study. width: of the interval, to either side."""
    reach = math.nan if width is None else width
    return pd.DataFrame(
        [
            {
                "study": "hand",
                "cell": f"{place:02d}",
                "system": simulator[0],
                "track": simulator[1],
                "metric": metric,
                "stat": stat,
                "error": error,
                "error_low": error - reach,
                "error_high": error + reach,
                "noise_multiple": math.nan,
                "failed": failed,
            }
            for place, error in enumerate(errors)
            for metric, stat in words.QUESTIONS
        ]
    )


def study_of(cells: int, *scores: pd.DataFrame) -> StudyData:
    frame = pd.concat(scores, ignore_index=True)
    places = pd.DataFrame({"cell": [f"{place:02d}" for place in range(cells)], "system": "vllm", "repeats": 1, "saturated": False})
    simulators = sorted({(str(one.system), str(one.track)) for one in frame.itertuples()})
    return StudyData(
        name="hand",
        cells=places,
        scores=frame,
        knees=pd.DataFrame(),
        attribution=pd.DataFrame(columns=["system", "track", "metric", "part", "value"]),
        rankings=(),
        coverage=(),
        littles_law={},
        runs={},
        simulators=simulators,
        closed=frozenset(),
        concurrency={},
        same=frozenset(),
        chosen={},
    )


def test_a_bound_is_a_cells_and_nine_of_ten_lie_within_it() -> None:
    [record] = trust.records(study_of(12, scored(EASY, [0.05] * 10 + [0.105, 0.5], width=0.0)), KEY)
    assert (record.bound, record.grade) == (0.105, "care")  # 10 of 12 within 10 % are no 9 of 10
    [record] = trust.records(study_of(10, scored(EASY, [0.05] * 9 + [0.5], width=0.0)), KEY)
    assert (record.bound, record.grade) == (0.05, "trust")
    rng = np.random.default_rng(0)
    for n in range(1, 60):
        errors = rng.normal(0, 0.1, n)
        [record] = trust.records(study_of(n, scored(EASY, list(errors), width=0.0)), KEY)
        assert np.mean(np.abs(errors) <= record.bound) >= trust.MOST > np.mean(np.abs(errors) < record.bound)
        assert n >= trust.MANY or record.bound == record.worst


def test_where_an_interval_is_unknown_nothing_is_trusted() -> None:
    study = study_of(3, scored(EASY, [0.02] * 3, width=None))
    [record] = trust.records(study, KEY)
    assert (record.blank, record.bound, record.grade) == (3, math.inf, "unproven")
    [said] = words.verdict(study).reasons
    assert "unproven for TTFT p50 (typically 2.0 %), TTFT p99 (typically 2.0 %), " in said
    assert said.count("no interval") == 1 and " and goodput (typically 2.0 %), all with no interval in 3 cells" in said
    assert "trust it" not in str(words.verdict(study))
    [record] = trust.records(study_of(3, scored(EASY, [0.4] * 3, width=None)), KEY)
    assert record.grade == "not"
    half = scored(EASY, [0.02] * 3).assign(error_high=[math.nan] * len(words.QUESTIONS) + [0.03] * 2 * len(words.QUESTIONS))
    assert {one.grade for one in words.answers(study_of(3, half))} == {"unproven"}
    mixed = scored(EASY, [0.02] * 3).assign(error_high=[math.nan] + [0.03] * (3 * len(words.QUESTIONS) - 1))
    assert "; unproven for TTFT p50 (typically 2.0 %, but no interval in 1 cell)." in words.verdict(study_of(3, mixed)).reasons[0]


def test_errors_of_those_that_a_simulator_did_not_refuse_are_no_proof() -> None:
    """It refuses what it cannot hold, and is right about the rest."""
    honest, picky = scored(WIDE, [0.08] * 4), scored(EASY, [0.01] * 4, failed=0.3)
    study = study_of(4, honest, picky)
    first, second = trust.records(study, KEY)
    assert (first.simulator, second.simulator) == (WIDE, EASY)
    assert (second.lost, second.covers, second.grade) == (4, False, "unproven")
    said = words.verdict(study)
    only = "Vidur (matched) is the only one of 2 simulators and tracks that covers half of the cells."
    assert said.headline == f"Over 4 measured cells on vLLM, {only}"
    assert (
        "Requests were refused or lost, and errors there are of the others: Plumbline native (matched) up to 30 % in 4 cells."
        in said.reasons
    )
    alone = words.verdict(study_of(4, picky))
    assert "none can be trusted" in alone.headline and "up to 30 % in 4 cells" in alone.reasons[0]
    [few] = trust.records(study_of(4, scored(EASY, [0.01] * 4, failed=LOST)), KEY)
    assert (few.lost, few.grade) == (0, "trust")


def test_simulators_are_compared_on_the_same_cells() -> None:
    """The second is nearer on the cells that both ran on, and further off over all that it ran on."""
    study = study_of(10, scored(EASY, [0.04] * 5), scored(WIDE, [0.03] * 5 + [0.2] * 5))
    best = trust.nearest(study, words.OVERALL)
    assert best == trust.Nearest(simulator=WIDE, among=frozenset({EASY, WIDE}), cells=5)
    assert [record.simulator for record in trust.records(study, KEY)] == [WIDE, EASY]
    said = words.verdict(study)
    assert "Vidur (matched) comes nearest of 2 simulators and tracks in median TTFT" in said.headline
    assert "together, on the 5 cells that all of them cover" in said.headline
    swapped = study_of(10, scored(EASY, [0.02] * 5), scored(WIDE, [0.03] * 5 + [0.2] * 5))
    [below] = [reason for reason in words.verdict(swapped).reasons if reason.startswith("Below saturation")]
    assert "trust it for TTFT p50 (typically 2.0 %, on 5 of 10 cells)" in below
    whole = words.verdict(study_of(10, scored(EASY, [0.04] * 10), scored(WIDE, [0.03] * 10)))
    assert " on " not in whole.headline.removeprefix("Over 10 measured cells on vLLM") and "of 10 cells" not in " ".join(whole.reasons)


def test_who_covers_too_little_is_not_compared_and_narrows_nothing() -> None:
    thin = ("aisimulate", "matched")
    study = study_of(10, scored(EASY, [0.04] * 10), scored(WIDE, [0.05] * 10), scored(thin, [0.001] * 4))
    assert trust.nearest(study, words.OVERALL) == trust.Nearest(simulator=EASY, among=frozenset({EASY, WIDE}), cells=10)
    said = words.verdict(study)
    assert "comes nearest of 2 simulators" in said.headline
    assert "Not compared, for they share too few cells with the others: AISimulate (matched)." in said.reasons


@pytest.mark.parametrize("seed", range(20))
def test_what_is_common_is_covered_by_all_and_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    covered = {(str(i), "matched"): {str(cell) for cell in np.flatnonzero(rng.random(12) < rng.random())} for i in range(5)}
    compared, common = trust.in_common(covered, 12)
    assert all(common <= covered[one] for one in compared)
    if compared:
        assert len(common) >= 6
    assert bool(compared) == any(len(cells) >= 6 for cells in covered.values())


def test_the_furthest_is_the_furthest_of_those_compared() -> None:
    others = [(("splitwise_sim", "matched"), [0.1] * 10), (("vidur", "shipped"), [0.9] * 10), (("vidur", "matched"), [0.001] * 3)]
    study = study_of(10, scored(EASY, [0.02] * 10), *(scored(*one) for one in others))
    answer = words.answers(study)[0]
    assert answer.others == "next Splitwise-sim (matched) +10 %, furthest Vidur (shipped) +90 %"


def test_simulators_not_to_be_trusted_are_named_once_with_their_tracks() -> None:
    bad = [scored((system, track), [0.9]) for system, track in (("splitwise_sim", "shipped"), ("splitwise_sim", "matched"), WIDE)]
    said = words.verdict(study_of(1, scored(EASY, [0.01]), *bad, scored(("vidur", "calibrated"), [0.02])))
    assert "Not to be trusted for any latency: Splitwise-sim (all tracks) and Vidur (matched)." in said.reasons


def test_throughput_is_judged_where_cells_are_known_to_be_saturated() -> None:
    study = study_of(4, scored(EASY, [0.01] * 4))
    unknown = dataclasses.replace(study, cells=study.cells.assign(saturated=None))
    above = dataclasses.replace(study, cells=study.cells.assign(saturated=True))
    for one, judged in ((study, False), (unknown, False), (above, True)):
        assert ("Output throughput" in {answer.question for answer in words.answers(one)}) == judged


def test_tracks_are_compared_on_the_same_cells() -> None:
    shipped, matched = scored(("vidur", "shipped"), [0.1] * 4 + [0.9] * 5), scored(("vidur", "matched"), [0.05] * 4)
    [finding] = findings.findings(study_of(9, shipped, matched))
    assert finding.items == ("Vidur: 10 % shipped, 5.0 % matched (on 4 of 9 cells)",)


def test_the_table_says_how_many_cells_where_those_are_not_all() -> None:
    numbers = table.numbers(study_of(4, scored(EASY, [0.1] * 3)))
    text = table.as_text(numbers)
    assert text.loc[0, "TTFT p50"] == "10 % (10 %) in 3/4"
    assert text.loc[0, "Output throughput, saturated"] == "–"


def labelled(run: Run, study: str | None, run_id: str) -> Run:
    label = {} if study is None else {"study": {"name": study, "cell": "0123456789ab"}}
    return dataclasses.replace(run, run_id=run_id, config={**run.config, **label})


@pytest.fixture
def two_studies(make_database: MakeDatabase) -> Path:
    """One cell in two studies, whose simulations differ, and a bench outside of any. A simulation took as many seconds as its `scale`."""
    plain = make_run(num_requests=60, telemetry=False, token_times=False)
    runs = []
    for study, run_id, scale in (("one", "b-one", 1.1), ("two", "a-two", 1.6), (None, "0-bench", 2.5)):
        measured = labelled(plain, study, run_id)
        runs += [measured, dataclasses.replace(make_simulated(measured, scale=scale, noise=0.0), wall_s=scale)]
    path = make_database(*runs)
    score(path, FEW)
    return path


def read(path: Path, name: str | None) -> StudyData:
    with open_database(path) as connection:
        return read_study(connection, path, name)


def test_a_study_holds_its_own_runs_only(two_studies: Path) -> None:
    study = read(two_studies, "one")
    assert set(study.runs) == {"b-one", "b-one--vidur-calibrated"}
    assert study.cells["cell"].tolist() == ["0123456789ab"] and study.chosen == {"0123456789ab": "b-one"}
    assert len(study.knees) == 2
    [record] = trust.records(study, KEY)
    assert record.typical == pytest.approx(0.1)
    assert set(read(two_studies, "two").runs) == {"a-two", "a-two--vidur-calibrated"}


def test_all_runs_together_keep_the_cells_of_each_study_apart(two_studies: Path) -> None:
    study = read(two_studies, None)
    [bench] = [cell for cell in study.cells["cell"] if "/" not in cell]
    assert study.chosen == {bench: "0-bench", "one/0123456789ab": "b-one", "two/0123456789ab": "a-two"}
    [record] = trust.records(study, KEY)
    assert record.cells == 3 and (record.typical, record.worst) == pytest.approx((0.6, 1.5))
    with open_database(two_studies) as connection:
        data = embed.payload(study, connection, two_studies.parent)
    assert not any("from track to track" in finding.text for finding in findings.findings(study))  # there is but one
    assert [cell["scenario"] for cell in data["cells"]] == [f"vLLM · handmade · {of}" for of in ("no study", "one", "two")]
    assert len(data["knees"]["cell"]) == len(set(zip(data["knees"]["cell"], data["knees"]["sim"], strict=True))) == 6


def test_coverage_of_all_studies_is_that_of_each_added_up(two_studies: Path) -> None:
    [row] = read(two_studies, None).coverage
    each = [one for name in ("one", "two") for one in read(two_studies, name).coverage]
    assert (row["scored"], [one["scored"] for one in each]) == (3, [1, 1])
    assert row["failed"] == 0
    with open_database(two_studies) as connection:
        [(seconds,)] = connection.execute(
            "SELECT sum(seconds) FROM (SELECT max(finished) - min(arrival) AS seconds FROM requests JOIN runs USING (run_id) "
            "WHERE kind = 'simulated' GROUP BY run_id)"
        ).fetchall()
    assert row["speed"] == pytest.approx(seconds / (1.1 + 1.6 + 2.5))
    text = table.as_text(table.numbers(read(two_studies, None)))
    assert text.loc[0, "cells"] == "3/3"


def test_a_refused_request_is_seen_in_the_cells_score(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=100, telemetry=False, token_times=False)
    simulated = make_simulated(measured, scale=1.0, noise=0.0)
    longest = sorted(range(100), key=lambda i: measured.trace.requests[i].input_tokens)[-30:]
    records = list(simulated.records)
    for i in longest:
        records[i] = RequestRecord(request_id=records[i].request_id, arrival=records[i].arrival, sent=records[i].sent, error="refused")
    path = make_database(measured, dataclasses.replace(simulated, records=tuple(records)))
    score(path, FEW)
    study = read(path, None)
    assert measured.window is not None
    inside = [measured.window[0] <= record.arrival <= measured.window[1] for record in measured.records]
    share = sum(inside[i] for i in longest) / sum(inside)
    assert study.scores["failed"].to_numpy() == pytest.approx(share) and 0.2 < share < 0.4
    assert study.coverage[0]["failed"] == pytest.approx(0.3)
    said = words.verdict(study)
    assert "trust it for" not in str(said) and "refused or lost" in str(said)
