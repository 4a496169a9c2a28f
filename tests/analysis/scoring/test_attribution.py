"""Laws of the waterfall: parts add up to the whole, and each takes what was put into it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from analysis import data
from analysis.scoring.attribution import PARTS
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from results.database import connect
from results.profile import Profile
from results.record import RequestRecord, Run, Track
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated
from tests.simulators.profiles import Law, make_profile

BOOTSTRAP = Bootstrap(resamples=100)
Parts = dict[str, float]


def moved(run: Run, first: float, gap: float = 0.0) -> tuple[RequestRecord, ...]:
    """The run's records, each first token `first` s later and each gap after it `gap` s longer."""
    records = []
    for r in run.records:
        assert r.first_token is not None and r.finished is not None and r.output_tokens is not None
        finished = r.finished + first + gap * (r.output_tokens - 1)
        records.append(dataclasses.replace(r, first_token=r.first_token + first, finished=finished, token_times=None))
    return tuple(records)


def track(measured: Run, name: Track, first: float, gap: float = 0.0, *, system: str = "native", **simulator: Any) -> Run:
    """A simulated run that is `first` and `gap` s off the measured one."""
    run = make_simulated(measured, system=system, track=name)
    config = {**run.config, "simulator": {**run.config["simulator"], **simulator}}
    return dataclasses.replace(run, records=moved(measured, first, gap), config=config)


def waterfalls(make_database: MakeDatabase, *runs: Run) -> dict[tuple[str, str, str], Parts]:
    """The parts by (system, track, metric); that they add up to measured less simulated is checked here, for all."""
    database = make_database(*runs)
    score(database, BOOTSTRAP)
    with connect(database) as connection:
        rows = data.rows(connection, "SELECT * FROM attribution ORDER BY system, track, metric, position")
        means = {run.run_id: values for run in runs for values in [data.metric_values(connection, [run.run_id])[run.run_id]]}
    found: dict[tuple[str, str, str], Parts] = {}
    for row in rows:
        found.setdefault((row["system"], row["track"], row["metric"]), {})[row["part"]] = row["value"]
    for (system, name, metric), parts in found.items():
        [row, *_] = [r for r in rows if (r["system"], r["track"], r["metric"]) == (system, name, metric)]
        [simulated] = [run for run in runs if (run.system, run.track) == (system, name)]
        assert row["measured"] == means[str(simulated.measured_run_id)][metric, "mean"]
        assert row["simulated"] == means[simulated.run_id][metric, "mean"]
        assert row["simulated"] + sum(parts.values()) == pytest.approx(row["measured"], abs=1e-12)
        assert list(parts) == [part for part in PARTS if part in parts]
    return found


def approx(parts: Parts) -> object:
    return pytest.approx(parts, abs=1e-9)


FRONTEND = {"before": 0.003, "before_per_token": 0.0, "after": 0.001}
FITS: dict[str, Any] = {"step_time": {"residuals": {"fitted": {"median_abs_error": 0.03}}}}


def test_each_part_takes_what_two_tracks_differ_in(make_database: MakeDatabase) -> None:
    measured = make_run(rate=100.0)
    runs = [
        track(measured, "shipped", -0.150, -0.005),
        track(measured, "matched", -0.110, -0.004),
        track(measured, "calibrated", -0.040, -0.001, frontend=FRONTEND),
        track(measured, "oracle", -0.030, 0.002, frontend=FRONTEND, **FITS),
    ]
    found = waterfalls(make_database, measured, *runs)
    assert found["native", "shipped", "ttft"] == approx({"kv_capacity": 0.04, "step_times": 0.076, "frontend": 0.004, "scheduling": 0.03})
    assert found["native", "calibrated", "ttft"] == approx({"step_times": 0.01, "scheduling": 0.03})
    tpot = found["native", "calibrated", "tpot"]
    assert tpot["step_times"] == pytest.approx(0.003) and tpot["scheduling"] == pytest.approx(-0.002)
    assert ("native", "oracle", "ttft") not in found  # no waterfall starts from a diagnosis


def test_what_requests_spend_at_a_simulators_api_servers_is_its_front_end(make_database: MakeDatabase) -> None:
    """Each track has its own queue before the engine: their difference is no difference of limits or step times."""
    measured = make_run(rate=100.0)

    def station(before: float, first: float, last: float) -> dict[str, Any]:
        use = {"before": before, "first_token": first, "last_token": last, "busy": 1.0, "requests": 40}
        return {"before": 0.0, "before_per_token": 0.0, "after": 0.0, "station": {"request": 0.001}, "use": use}

    runs = [
        track(measured, "matched", -0.110, frontend=station(0.010, 0.002, 0.001)),
        track(measured, "calibrated", -0.040, frontend=station(0.016, 0.003, 0.004)),
    ]
    found = waterfalls(make_database, measured, *runs)
    assert found["native", "matched", "ttft"] == approx({"step_times": 0.063, "frontend": 0.007, "unexplained": 0.04})
    assert found["native", "matched", "e2e"] == approx({"step_times": 0.061, "frontend": 0.009, "unexplained": 0.04})
    assert "frontend" not in found["native", "matched", "tpot"]


def test_what_tells_nothing_apart_is_unexplained(make_database: MakeDatabase) -> None:
    measured = make_run(rate=100.0)
    runs = [
        track(measured, "shipped", -0.150, system="vidur"),
        track(measured, "calibrated", -0.040, system="vidur"),  # limits and step times at once
        track(measured, "calibrated", -0.040, system="aisimulate"),
        track(measured, "calibrated", -0.040, frontend=FRONTEND),
        track(measured, "oracle", -0.030, frontend=FRONTEND),  # nothing says that its step times fit
    ]
    found = waterfalls(make_database, measured, *runs)
    assert found["vidur", "shipped", "ttft"] == approx({"unexplained": 0.15})
    assert found["aisimulate", "calibrated", "e2e"] == approx({"unexplained": 0.04})
    assert found["native", "calibrated", "ttft"] == approx({"step_times": 0.01, "unexplained": 0.03})


def test_a_front_end_that_a_simulator_leaves_out_is_the_profiles(make_database: MakeDatabase) -> None:
    measured = make_run()
    profile = make_profile(Law(frontend=0.004))
    runs = [
        track(measured, "calibrated", -0.040, system="vidur", frontend="none"),
        track(measured, "calibrated", -0.040, system="aisimulate", frontend="offset"),
    ]
    database = make_database(measured, *runs)
    _beside(database.parent / "runs" / measured.run_id, profile)
    score(database, BOOTSTRAP)
    with connect(database) as connection:
        rows = data.rows(connection, "SELECT system, metric, part, value FROM attribution WHERE metric <> 'tpot'")
    found = {(row["system"], row["metric"], row["part"]): row["value"] for row in rows}
    for metric in ("ttft", "e2e"):
        assert found["vidur", metric, "frontend"] == pytest.approx(0.004)
        assert found["vidur", metric, "unexplained"] == pytest.approx(0.036)
        assert found["aisimulate", metric, "unexplained"] == pytest.approx(0.04)
        assert ("aisimulate", metric, "frontend") not in found


def test_what_an_oracle_misses_of_requests_that_met_nobody_is_front_end(make_database: MakeDatabase) -> None:
    measured = make_run(rate=0.1)  # a request each 10 s, which takes 1 s at most
    runs = [
        track(measured, "calibrated", -0.040, frontend=FRONTEND),
        track(measured, "oracle", -0.030, frontend=FRONTEND, **FITS),
    ]
    found = waterfalls(make_database, measured, *runs)
    assert found["native", "calibrated", "ttft"] == approx({"step_times": 0.01, "frontend": 0.03, "scheduling": 0.0})


def test_a_cells_waterfall_adds_up_over_repeats_that_do_not_have_the_same_parts(make_database: MakeDatabase) -> None:
    trace = make_run(rate=0.1).trace
    repeats = [make_run(f"repeat-{i}", trace=trace, repeat=i) for i in range(2)]
    runs = [
        track(repeats[0], "calibrated", -0.040, frontend=FRONTEND),
        track(repeats[0], "oracle", -0.030, frontend=FRONTEND, **FITS),
        track(repeats[1], "calibrated", -0.060, frontend=FRONTEND),  # no oracle: unexplained
    ]
    database = make_database(*repeats, *runs)
    score(database, BOOTSTRAP)
    with connect(database) as connection:
        rows = data.rows(connection, "SELECT * FROM cell_attribution WHERE metric = 'ttft' ORDER BY position")
    parts = {row["part"]: row["value"] for row in rows}
    assert parts == pytest.approx({"step_times": 0.005, "frontend": 0.015, "scheduling": 0.0, "unexplained": 0.03}, abs=1e-9)
    assert {(row["repeats"], round(row["measured"] - row["simulated"], 9)) for row in rows} == {(2, 0.05)}


def test_a_waterfall_of_other_requests_or_of_none_is_not_made(make_database: MakeDatabase) -> None:
    measured, other = make_run(), make_run("other", seed=5)
    stray = dataclasses.replace(make_simulated(other), measured_run_id=measured.run_id)
    failed = dataclasses.replace(make_run("failed", num_requests=5, failures=range(5)))
    assert waterfalls(make_database, measured, other, stray, failed, make_simulated(failed)) == {}


def _beside(folder: Path, profile: Profile) -> None:
    """Put a profile's files into a run's folder, as the harness does."""
    for file in profile.write(folder.parent.parent / "profile").iterdir():
        file.rename(folder / file.name)
