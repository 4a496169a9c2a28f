"""Laws of scoring, over real run folders and a real database."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from analysis import data
from analysis.data import Score
from analysis.requests import LATENCIES, RATES
from analysis.scoring.fidelity import score
from analysis.stats import STATS, Bootstrap
from results.database import connect
from results.project.folder import ROOT
from results.record import SLO, RequestRecord, Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated, make_trace

BOOTSTRAP = Bootstrap(resamples=300)
WITHOUT_INTERVAL = ("ks", "wasserstein", "wasserstein_s")


def fidelity(database: Path, measured: Run) -> dict[tuple[str, str, str | None], Score]:
    """The scores of one measured run by (system, metric, stat)."""
    with connect(database) as connection:
        return {(s.system, s.metric, s.stat): s for s in data.scores(connection, measured.run_id)}


def test_a_simulator_that_repeats_the_measurement_has_no_error_anywhere(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=400, rho=0.1, failures=(3,))
    database = make_database(measured, _twin(measured, measured.records))
    assert score(database, BOOTSTRAP) == {}
    scores = fidelity(database, measured)
    assert len(scores) == len(STATS) * (len(LATENCIES) + 1) + len(RATES) + 4 * len(LATENCIES)
    for key, one in scores.items():
        assert one.error == pytest.approx(0, abs=1e-12), key
        if one.stat not in WITHOUT_INTERVAL:
            assert one.error_low == one.error_high == 0, key


def test_latencies_ten_per_cent_too_long_are_an_error_of_ten_per_cent_in_every_statistic(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=400, rho=0.1)
    database = make_database(measured, make_simulated(measured, scale=1.1, noise=0.0))
    score(database, BOOTSTRAP)
    scores = fidelity(database, measured)
    for metric in LATENCIES:
        for stat in (*STATS, "mape"):
            one = scores["vidur", metric, stat]
            assert (one.error, one.error_low, one.error_high) == pytest.approx((0.1, 0.1, 0.1)), (metric, stat)
        mean = scores["vidur", metric, "mean"].measured
        assert mean is not None
        assert scores["vidur", metric, "wasserstein"].error == pytest.approx(0.1)
        assert scores["vidur", metric, "wasserstein_s"].error == pytest.approx(0.1 * mean)


def test_measured_and_simulated_are_the_databases_own_numbers_and_lie_inside_the_interval(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=400, rho=0.1, failures=(5, 6))
    simulated = make_simulated(measured, noise=0.3, scale=1.3)
    database = make_database(measured, simulated)
    score(database, BOOTSTRAP)
    with connect(database) as connection:
        values = data.metric_values(connection, [measured.run_id, simulated.run_id])
    compared = [one for one in fidelity(database, measured).values() if one.simulated is not None]
    assert {one.metric for one in compared} == {*LATENCIES, *RATES}
    for one in compared:
        assert one.measured == values[measured.run_id][one.key]
        assert one.simulated == values[simulated.run_id][one.key]
        assert one.measured and one.error == pytest.approx(one.simulated / one.measured - 1)  # type: ignore[operator]
        assert one.error is not None and one.error_low is not None and one.error_high is not None
        assert one.error_low <= one.error <= one.error_high, one


def test_at_its_load_a_run_can_be_too_short_for_latencies_but_not_for_throughput(make_database: MakeDatabase) -> None:
    for rho, given in ((0.1, True), (0.8, False), (1.1, False)):
        measured = make_run(f"run-{rho}", num_requests=80, rho=rho)
        database = make_database(measured, make_simulated(measured, scale=1.1, noise=0.0))
        score(database, BOOTSTRAP)
        scores = fidelity(database, measured)
        medians = [scores["vidur", metric, stat] for metric in LATENCIES for stat in ("p50", "mape")]
        assert {one.error_low is not None for one in (*medians, scores["vidur", "slo_attainment", None])} == {given}, rho
        assert all(scores["vidur", rate, None].error_low is not None for rate in ("output_throughput", "request_rate"))
        assert all(one.error is not None for one in medians)


def test_token_gaps_are_scored_when_both_show_token_times_and_unknown_when_one_does_not(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=400, rho=0.1)
    with_tokens = _twin(measured, [_stretched(record, 1.5) for record in measured.records])
    database = make_database(measured, with_tokens, make_simulated(measured, system="aisimulate"))
    score(database, BOOTSTRAP)
    scores = fidelity(database, measured)
    for stat in STATS:
        shown, hidden = scores["vidur", "itl", stat], scores["aisimulate", "itl", stat]
        assert (shown.error, shown.error_low, shown.error_high) == pytest.approx((0.5, 0.5, 0.5))
        assert hidden.measured is not None
        assert (hidden.simulated, hidden.error, hidden.error_low) == (None, None, None)


def test_runs_on_other_requests_are_refused_with_both_hashes_and_the_rest_is_scored(make_database: MakeDatabase) -> None:
    measured = make_run()
    other = make_run(trace=make_trace(seed=9))
    stray = dataclasses.replace(make_simulated(other, system="native"), run_id="stray", measured_run_id=measured.run_id)
    orphan = dataclasses.replace(make_simulated(measured, system="native"), run_id="orphan", measured_run_id="gone")
    database = make_database(measured, make_simulated(measured), stray, orphan)
    assert score(database, BOOTSTRAP) == {
        "orphan": "its measured run gone is not in the database",
        "stray": f"not the same requests: its trace is {other.trace.sha256}, that of {measured.run_id} is {measured.trace.sha256}",
    }
    assert {one.system for one in fidelity(database, measured).values()} == {"vidur"}


def test_noise_is_the_relative_standard_deviation_over_valid_repeats_and_unknown_without(make_database: MakeDatabase) -> None:
    trace = make_trace()
    repeats = [make_run(f"repeat-{i}", repeat=i, trace=trace) for i in range(3)]
    spoilt = dataclasses.replace(make_run("repeat-9", repeat=9, trace=trace), valid=False, invalid_reason="the client was late")
    other_load = make_run("other", trace=trace, repeat=5)
    other_load = dataclasses.replace(other_load, config={**other_load.config, "load": {"rho": 0.9}})
    database = make_database(*repeats, spoilt, other_load, make_simulated(repeats[0]), make_simulated(other_load))
    score(database, BOOTSTRAP)
    with connect(database) as connection:
        metrics = data.metric_values(connection, [run.run_id for run in repeats])
    values = np.array([metrics[run.run_id]["ttft", "p90"] for run in repeats], dtype=float)
    assert fidelity(database, repeats[0])["vidur", "ttft", "p90"].noise == pytest.approx(values.std(ddof=1) / values.mean())
    assert fidelity(database, other_load)["vidur", "ttft", "p90"].noise is None


def test_scoring_twice_gives_the_same_rows_once(make_database: MakeDatabase) -> None:
    measured = make_run()
    database = make_database(measured, make_simulated(measured))
    score(database, BOOTSTRAP)
    first = fidelity(database, measured)
    score(database, BOOTSTRAP)
    assert fidelity(database, measured) == first
    with connect(database) as connection:
        assert data.rows(connection, "SELECT count(*) AS n FROM fidelity") == [{"n": len(first)}]


def test_a_scored_database_is_scored_again_with_other_settings_only(make_database: MakeDatabase) -> None:
    measured = make_run()
    database = make_database(measured, make_simulated(measured, noise=0.3))
    score(database, BOOTSTRAP)
    with connect(database, read_only=False) as connection:
        connection.execute("DELETE FROM fidelity")
    score(database, BOOTSTRAP)
    assert fidelity(database, measured) == {}
    score(database, Bootstrap(resamples=301))
    first = fidelity(database, measured)
    assert first["vidur", "ttft", "p50"].error is not None
    make_database()  # built anew
    score(database, Bootstrap(resamples=301))
    assert fidelity(database, measured) == first


RESCORED = """
import sys
from pathlib import Path
import analysis
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from results.database import connect

tree, database, *files = sys.argv[1:]
assert Path(analysis.__file__).is_relative_to(tree)
for name in files:
    with (Path(tree) / name).open("a") as file:
        file.write("# another version")
    with connect(Path(database), read_only=False) as connection:
        connection.execute("DELETE FROM fidelity")
    score(Path(database), Bootstrap(resamples=300))
    with connect(Path(database)) as connection:
        if connection.execute("SELECT count(*) FROM fidelity").fetchone()[0]:
            print(name)
"""


def test_other_code_scores_anew_and_another_drawing_does_not(make_database: MakeDatabase, tmp_path: Path) -> None:
    """In a copy of the analysis, one file after the other is changed and the same database scored."""
    measured, tree = make_run(), tmp_path / "tree"
    database = make_database(measured, make_simulated(measured))
    score(database, BOOTSTRAP)
    shutil.copytree(ROOT / "analysis", tree / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    drawing = ["analysis/plots.py", "analysis/report.py", "analysis/verdict.py", "analysis/page/report.css"]
    scoring = ["analysis/scoring/pairs.py", "analysis/stats.py", "analysis/data.py"]
    argv = [sys.executable, "-c", RESCORED, str(tree), str(database), *drawing, *scoring]
    environ = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
    done = subprocess.run(argv, cwd=tree, env=environ, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == scoring


def test_an_engine_that_failed_everywhere_leaves_errors_unknown(make_database: MakeDatabase) -> None:
    measured = make_run(num_requests=10, failures=range(10))
    database = make_database(measured, make_simulated(measured))
    score(database, BOOTSTRAP)
    assert {one.error for one in fidelity(database, measured).values()} == {None}


def test_a_limit_on_something_unknown_leaves_goodput_unknown(make_database: MakeDatabase) -> None:
    measured = make_run(slo=SLO(tpot=0.03))
    blind = _twin(measured, [dataclasses.replace(r, first_token=None, token_times=None) for r in measured.records])
    database = make_database(measured, blind)
    score(database, BOOTSTRAP)
    goodput = fidelity(database, measured)["vidur", "goodput", None]
    assert goodput.measured is not None and goodput.measured > 0
    assert (goodput.simulated, goodput.error, goodput.error_low) == (None, None, None)


def _twin(measured: Run, records: Sequence[RequestRecord]) -> Run:
    return dataclasses.replace(make_simulated(measured), records=tuple(records))


def _stretched(record: RequestRecord, factor: float) -> RequestRecord:
    assert record.token_times is not None
    times = tuple(record.arrival + factor * (t - record.arrival) for t in record.token_times)
    return dataclasses.replace(record, token_times=times, first_token=times[0], finished=times[-1])
