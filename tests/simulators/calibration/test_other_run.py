"""`calibration=run`: one load is measured, others are predicted; what is scored is never fitted to."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.record import EngineLimits, Run
from results.storage.run_tables import StoreError
from results.storage.store import write_run
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.resolve import limits_of
from tests.simulators.calibration.made_runs import HARDWARE, TRUTH, latencies, other_run, run_of
from tests.simulators.native.latency.test_step_time import batch
from tests.simulators.native.test_native import native


@pytest.fixture(scope="module")
def calm() -> Run:
    return run_of("calm", rate=8.0, seed=1)


@pytest.fixture
def root(calm: Run, tmp_path: Path) -> Path:
    write_run(tmp_path / "runs", calm)
    return tmp_path / "runs"


def test_it_predicts_three_times_the_load_of_the_run_that_it_was_fitted_to(root: Path, tmp_path: Path) -> None:
    busy = run_of("busy", rate=24.0, seed=2)
    profile = other_run("calm", root).profile(busy, None)
    assert profile is not None
    predicted = native().simulate(busy, track="calibrated", profile=profile, scratch=tmp_path)
    ours, theirs = latencies(predicted), latencies(busy)
    errors = ours.mean(axis=0) / theirs.mean(axis=0) - 1
    assert np.abs(errors) == pytest.approx(np.zeros(3), abs=0.02)  # TTFT, TPOT, E2E
    assert np.median(np.abs(ours / theirs - 1)[:, 1]) < 0.02  # TPOT of each request
    told = profile.provenance
    assert told["fitted_to"]["run_id"] == "calm"
    assert told["fitted_to"]["load_of_the_scored"] == pytest.approx(3.0, rel=0.2)
    assert told["fitted_to_requests"] == len(busy.records) == 150


def test_the_roofline_that_is_scaled_is_that_of_the_gpus_kind(calm: Run) -> None:
    """And what it says is what our own simulator computes, the host's share included."""
    a40, unknown = (
        dataclasses.replace(calm, config={**calm.config, "hardware": {**HARDWARE, "name": name}, "engine": {"async_scheduling": False}})
        for name in ("a40", "no-such")
    )
    of_kind, general = (other_run("calm", Path()).base.seconds(run)(batch=8, context=100) for run in (a40, unknown))
    limits = limits_of(a40.limits, a40.config, "a40")
    own = native().computed(a40.config["model"], a40.config["hardware"], limits, tensor_parallel=1, engine={"async_scheduling": False})
    assert of_kind == own.seconds(batch(*[(1, 100)] * 8)) != general


def test_a_step_of_one_tile_has_a_time_of_its_own(calm: Run) -> None:
    """Seventeen sequences may take less than sixteen, and the law that is fitted keeps that."""
    stretching = other_run("calm", Path()).stretching(calm)
    even, higher = (MeasuredStepTime(stretching.at({**TRUTH, "one_tile": share})) for share in (0.0, 0.3))
    one, tile, more = (batch(*[(1, 100)] * n) for n in (1, 16, 17))
    added = 0.3 * stretching.parts.min()
    assert higher.seconds(one) - even.seconds(one) == pytest.approx(added, rel=0.05)
    assert higher.seconds(tile) - even.seconds(tile) == pytest.approx(added, rel=0.05)
    assert higher.seconds(more) == pytest.approx(even.seconds(more), rel=0.01)


def test_the_same_runs_give_the_same_profile(root: Path) -> None:
    busy = run_of("busy", rate=24.0, seed=2)
    one, two = (other_run("calm", root, "calibration.iterations=1").profile(busy, None) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.samples.equals(two.samples)


def test_a_repeat_is_fitted_to_and_told(calm: Run, root: Path) -> None:
    repeat = dataclasses.replace(run_of("again", rate=8.0, seed=3), rate=calm.rate)
    profile = other_run("calm", root, "calibration.iterations=1").profile(repeat, None)
    assert profile is not None
    assert profile.provenance["fitted_to"]["repeat_of_it"]
    assert not profile.provenance["fitted_to"]["same_requests"]


def test_the_run_that_is_scored_is_refused_under_any_name(calm: Run, root: Path) -> None:
    for scored in (calm, dataclasses.replace(calm, run_id="calm-by-another-name")):
        with pytest.raises(NotAvailable, match="calm is the run that is scored"):
            other_run("calm", root).profile(scored, None)
    late = dataclasses.replace(calm.records[0], finished=(calm.records[0].finished or 0.0) + 1e-3)
    measured_again = dataclasses.replace(calm, run_id="again", records=(late, *calm.records[1:]))
    profile = other_run("calm", root, "calibration.iterations=1").profile(measured_again, None)
    assert profile is not None
    assert profile.provenance["fitted_to"]["same_requests"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardware": "fast"}, "GPU (fast and cpu-test)"),
        ({"system": "sglang"}, "engine (sglang and vllm)"),
        ({"version": "1"}, "version (1 and 0)"),
        ({"limits": {"tensor_parallel": 2}}, "tensor_parallel (2 and 1)"),
        ({"model": {"num_hidden_layers": 5}}, "model's num_hidden_layers (5 and 4)"),
        ({"hardware": "fast", "version": "1"}, "version (1 and 0); GPU (fast and cpu-test)"),
    ],
)
def test_a_run_of_something_else_is_refused_and_what_differs_is_said(changes: dict[str, Any], said: str, calm: Run, root: Path) -> None:
    scored = dataclasses.replace(calm, run_id="scored")
    if "limits" in changes:
        changes = {"limits": EngineLimits(**dataclasses.asdict(scored.limits) | changes["limits"])}
    if "model" in changes:
        changes = {"config": {**scored.config, "model": {**scored.config["model"], **changes["model"]}}}
    late = dataclasses.replace(scored.records[0], finished=None, error="lost")
    scored = dataclasses.replace(scored, records=(late, *scored.records[1:]), **changes)
    with pytest.raises(NotAvailable, match=re.escape(f"calm cannot calibrate scored: they differ in {said}")):
        other_run("calm", root).profile(scored, None)


def test_a_run_to_fit_to_must_be_there_measured_and_valid(calm: Run, root: Path) -> None:
    scored = run_of("scored", rate=9.0, seed=5, requests=20)
    with pytest.raises(StoreError, match=r"no run named clam in .*; did you mean calm"):
        other_run("clam", root).profile(scored, None)
    write_run(root, dataclasses.replace(calm, run_id="bad", valid=False, invalid_reason="it was late"))
    with pytest.raises(SimulatorError, match="bad is INVALID \\(it was late\\); give a valid run"):
        other_run("bad", root).profile(scored, None)
    write_run(root, dataclasses.replace(calm, run_id="made", kind="simulated", track="matched", measured_run_id="calm"))
    with pytest.raises(SimulatorError, match="made is a simulated run; give a measured one"):
        other_run("made", root).profile(scored, None)
    failed = tuple(dataclasses.replace(r, error="refused", first_token=None) for r in calm.records)
    write_run(root, dataclasses.replace(calm, run_id="failed", records=failed))
    with pytest.raises(NotAvailable, match="failed has 0 requests with all their times"):
        other_run("failed", root).profile(scored, None)
