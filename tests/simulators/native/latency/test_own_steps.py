"""The oracle: step times from a run's own step log. A run that native itself served, log and all, is what it must repeat."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.record import EngineLimits, Run
from simulators.errors import NotAvailable
from simulators.native.engine import run as serve_steps
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.latency.own_steps import logged_steps, own_profile
from simulators.native.resolve import limits_of
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Batch, Sequence
from simulators.native.serve import Queue
from simulators.native.served import Frontend
from tests.simulators.native.test_native import native
from tests.simulators.profiles import LIMITS, Law, make_measured, make_profile, with_limits

LAW = Law(frontend=0.0)


def served(*, slowdown: float = 1.0, rate: float = 15.0, limits: EngineLimits = LIMITS, hiccup: bool = False) -> Run:
    """A run of 150 requests as vLLM would log it, on an engine whose steps take `slowdown` times LAW. hiccup: some logged late, at once."""
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(1 / rate, 150))
    asked = make_measured([(float(t), int(rng.integers(20, 900)), int(rng.integers(2, 60))) for t in arrivals], limits=limits)
    resolved = limits_of(limits, asked.config, "the test")
    queue = Queue(asked.trace_as_sent(), resolved, Frontend())
    steps = list(serve_steps(queue.accepted, VllmV1(resolved), MeasuredStepTime(make_profile(LAW, scale=slowdown)), in_flight=1))
    rows = []
    for number, step in enumerate(steps):
        late = hiccup and number % 50 in (10, 11)  # logged together with the third
        end = steps[number + (12 - number % 50)].end - 1e-5 * (12 - number % 50) if late and number + 2 < len(steps) else step.end
        chunks = len(step.batch.sequences) - step.batch.decodes
        if chunks:
            rows += [(end, "step_prefill_sequences", chunks), (end, "step_prefill_new_tokens", step.batch.prefill_tokens)]
        if step.batch.decodes:
            rows.append((end, "step_decode_batch", step.batch.decodes))
    kept = {r.request_id: r for r in queue.records()}
    records = [dataclasses.replace(kept[r.request_id], arrival=r.arrival, sent=r.sent) for r in asked.records]
    telemetry = pd.DataFrame(rows, columns=["time", "name", "value"]).astype({"value": float})
    return dataclasses.replace(asked, records=tuple(records), telemetry=telemetry, run_id="vllm-logged-0")


def mean_latencies(run: Run) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Mean TTFT and E2E, s."""
    times = [
        (r.first_token - r.arrival, r.finished - r.arrival) for r in run.records if r.first_token is not None and r.finished is not None
    ]
    assert len(times) == len(run.records)
    return np.asarray(np.mean(times, axis=0), dtype=np.float64)


@pytest.mark.parametrize("hiccup", [False, True])
def test_the_oracle_repeats_a_run_that_native_served_whatever_the_profile_says(tmp_path: Path, hiccup: bool) -> None:
    run, profile = served(slowdown=1.6, hiccup=hiccup), make_profile(LAW)
    tracks = {}
    for track in ("calibrated", "oracle"):
        (tmp_path / track).mkdir()
        tracks[track] = native().simulate(run, track=track, profile=profile, scratch=tmp_path / track)
    truth = mean_latencies(run)
    assert mean_latencies(tracks["oracle"]) == pytest.approx(truth, rel=0.03)
    assert (mean_latencies(tracks["calibrated"]) < 0.75 * truth).all()  # the profile is of an engine that was faster
    told = tracks["oracle"].config["simulator"]["step_time"]
    assert told["residuals"]["fitted"]["median_abs_error"] < 0.03
    against = tracks["oracle"].config["simulator"]["own_steps"]["profile_on_these_steps"]
    assert tracks["calibrated"].config["simulator"]["profile_on_these_steps"] == against
    assert set(against) >= {"decode", "mixed"}
    for held in against.values():
        assert held["took_s"] == pytest.approx(1.6 * held["profile_s"], rel=0.03)  # the very same steps took 1.6 times as long


def test_prompts_in_chunks_have_the_context_under_them() -> None:
    run = served(limits=with_limits(max_num_batched_tokens=256), rate=8.0)
    own = own_profile(run, None)
    chunks = own.samples[own.samples["new_tokens"] > 0]
    assert chunks["prefill_context"].max() > 256
    factor = own.provenance["step_times_multiplied_by"]
    assert factor == pytest.approx(1, rel=0.01)
    alone = chunks[chunks["batch"] == 0]
    served_by = MeasuredStepTime(make_profile(LAW))
    for new, under, seconds in zip(alone["new_tokens"], alone["prefill_context"], alone["time"] / factor, strict=True):
        batch = Batch(sequences=[Sequence(index=0, arrival=0.0, prompt=int(new), output=1)])
        batch.count(int(new), int(under))
        assert seconds == pytest.approx(served_by.seconds(batch), rel=1e-3)


def test_steps_after_an_idle_engine_are_no_samples_of_how_long_a_step_takes() -> None:
    run = served(rate=1.0)
    assert logged_steps(run)["time"].diff().max() > 0.5
    assert own_profile(run, make_profile(LAW)).samples["time"].max() < 0.2


def test_a_run_without_a_step_log_or_with_hardly_any_steps_is_not_available() -> None:
    run = served()
    with pytest.raises(NotAvailable, match=r"run vllm-logged-0 has none; measure with engine\.log_steps=true"):
        own_profile(dataclasses.replace(run, telemetry=None), None)
    assert run.telemetry is not None
    few = run.telemetry[run.telemetry["time"] <= run.telemetry["time"].sort_values().iloc[4]]
    with pytest.raises(NotAvailable, match="steps to fit, and no profile to fill up from"):
        own_profile(dataclasses.replace(run, telemetry=few), None)
