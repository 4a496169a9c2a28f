"""SGLang's real simulator, where PLUMBLINE_SGLANG names a clone: requests back as asked, prefixes shared, a cache that fills."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from harness.environment import ensure
from results.record import Run
from simulators.conformance.scene import LIMITS, Scene
from tests.simulators.foreign.copies import check_as_asked, configured
from tests.simulators.profiles import Law, make_measured, make_profile

CLONE = os.environ.get("PLUMBLINE_SGLANG")
LAW = Law()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CLONE is None, reason="PLUMBLINE_SGLANG must name a clone of github.com/sgl-project/sglang"),
]


def simulate(measured: Run, scratch: Path, **changes: Any) -> Run:
    ensure("sglang_simulator")
    scratch.mkdir(exist_ok=True)
    adapter = configured("sglang_simulator", checkout=CLONE, **changes)
    run: Run = adapter.simulate(measured, track="calibrated", profile=make_profile(LAW), scratch=scratch)
    return run


def test_every_request_comes_back_as_asked(tmp_path: Path) -> None:
    """No step is shorter than its predicted time, to which the time that the scheduler really took is added."""
    requests = sorted((1e-3 * (7 * i % 5) + 0.013 * i, 20 + 37 * i % 700, 1 + 11 * i % 50) for i in range(60))
    run = simulate(make_measured(requests, first_id=100), tmp_path / "one")
    check_as_asked(run)
    for record, asked in zip(run.records, run.trace, strict=True):
        assert (record.first_token or 0) - (record.sent or 0) >= 0.99 * LAW.prefill(asked.input_tokens)
    told = run.config["simulator"]
    assert told["scheduler_s"] > 0 and told["calibration"]["residuals"]["held_out"]["prefill"]["p90"] < 1e-6
    assert told["kv_tokens"] == run.limits.kv_tokens and told["steps"] > 0


def test_a_prompt_whose_first_half_was_computed_before_has_that_cached(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, prefix_caching=True)
    shared = Scene(requests=((0.5, 512, 4), (10.5, 512, 4)), limits=limits, ids=(5, 6), shared=(16, 16))
    first, second = simulate(shared.measured(), tmp_path / "shared").records
    assert (first.cached_tokens, second.cached_tokens) == (0, 256)
    asked = [(record.arrival, record.sent) for record in (first, second)]
    assert asked == [(0.5, 0.5), (10.5, 10.5)] and (second.scheduled or 0) >= 10.5


def test_requests_wait_when_the_cache_is_full(tmp_path: Path) -> None:
    """Of two whose answers fill the cache the second's first token comes after the first has ended, or it is retracted and comes back."""
    measured = make_measured([(0.5, 400, 300), (0.501, 400, 300)])
    measured = dataclasses.replace(measured, limits=dataclasses.replace(measured.limits, kv_tokens=1024))
    first, second = simulate(measured, tmp_path / "full").records
    assert (second.finished or 0) - (first.finished or 0) > 0.3 * ((first.finished or 0) - (first.first_token or 0))
