"""`calibration=first_requests`: it finds the law behind the first requests, and sees nothing of the others."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from results.record import Run
from simulators.calibration.bases import decode_parts
from simulators.calibration.first_requests import FirstRequests, Scaling
from simulators.calibration.points import compose
from simulators.errors import NotAvailable
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.resolve import limits_of
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.simulators.calibration.made_runs import calibration
from tests.simulators.profiles import make_measured

FIRST = 30
HARDWARE = {"name": "slow", "memory_gb": 8, "fp16_tflops": 10.0, "memory_bandwidth_gb_s": 100, "interconnect_gb_s": None}
TRUTH = np.array([1.4, 0.8, 0.02])  # of prompts, of decode steps, s of front-end


def source(**changes: Any) -> FirstRequests:
    words = [f"calibration.{name}={value}" for name, value in {"requests": FIRST, **changes}.items()]
    found = calibration("calibration=first_requests", *words)
    assert isinstance(found, FirstRequests)
    return found


def run_of(truth: np.ndarray[Any, Any]) -> Run:
    """A run that our own simulator served with the scaled law; scored from the request after the first ones on."""
    rng = np.random.default_rng(3)
    sent = np.cumsum(rng.exponential(0.02, 60))
    asked = [(float(t), int(rng.integers(20, 900)), int(rng.integers(5, 60))) for t in sent]
    run = make_measured(asked)
    run = dataclasses.replace(run, config={**run.config, "hardware": HARDWARE})
    seconds = source().base.seconds(run)
    base = compose(run, seconds, profile_id="truth", source="made", provenance={})
    profile = Scaling(base=base, parts=decode_parts(base, seconds)).at(truth)
    half = Frontend(before=float(truth[2]) / 2, after=float(truth[2]) / 2)
    served = serve(run.trace_as_sent(), limits_of(run.limits, run.config, "it"), MeasuredStepTime(profile), frontend=half)
    records = [dataclasses.replace(r, arrival=m.arrival, sent=m.sent) for r, m in zip(served.records, run.records, strict=True)]
    return dataclasses.replace(run, records=tuple(records), window=(run.records[FIRST].arrival, run.trace.duration))


def test_it_finds_the_factors_behind_the_first_requests_of_a_run_that_follows_its_law() -> None:
    profile = source().profile(run_of(TRUTH), None)
    assert profile is not None
    fitted = profile.provenance["fitted"]
    assert [fitted["prompt_factor"], fitted["decode_factor"]] == pytest.approx(TRUTH[:2], rel=0.02)
    assert fitted["frontend_s"] == pytest.approx(TRUTH[2], rel=0.05)
    assert profile.frontend == fitted["frontend_s"]


def test_what_happens_to_the_other_requests_does_not_touch_the_fit() -> None:
    run = run_of(TRUTH)
    late = [dataclasses.replace(r, finished=(r.finished or 0.0) + 100.0, first_token=(r.first_token or 0.0) + 50.0) for r in run.records]
    other = dataclasses.replace(run, records=(*run.records[:FIRST], *late[FIRST:]))
    quick = source(iterations=2)
    one, two = quick.profile(run, None), quick.profile(other, None)
    assert one is not None
    assert two is not None
    assert one.samples.equals(two.samples)


def test_a_run_that_is_scored_on_what_it_would_be_fitted_to_is_refused() -> None:
    run = run_of(TRUTH)
    for window in ((0.0, run.trace.duration), (run.records[FIRST - 1].arrival, run.trace.duration), None):
        with pytest.raises(NotAvailable, match=f"scored on its first {FIRST} requests too.* --last {60 - FIRST}"):
            source().profile(dataclasses.replace(run, window=window), None)
    failed = tuple(dataclasses.replace(r, error="refused", first_token=None) for r in run.records)
    with pytest.raises(NotAvailable, match=f"only 0 of the first {FIRST} requests have all their times"):
        source().profile(dataclasses.replace(run, records=failed), None)
