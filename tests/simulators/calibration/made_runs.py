"""Runs that our own simulator served with step times and front-end costs that are known exactly."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from results.project.folder import ROOT
from results.record import Run
from simulators.calibration.other_run import OtherRun
from simulators.calibration.whole_fit import frontend_of
from simulators.native.frontend.station import Station
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.resolve import limits_of
from simulators.native.serve import serve
from tests.simulators.native.test_native import native
from tests.simulators.profiles import make_measured

HARDWARE = {"name": "slow", "memory_gb": 8, "fp16_tflops": 10.0, "memory_bandwidth_gb_s": 100, "interconnect_gb_s": None}
TRUTH = {"decode": 1.25, "prompt": 0.8, "one_tile": 0.1, "step": 1e-3, "sequence": 4e-5, "frontend": 0.015, "prompt_token": 1e-5}


def calibration(*words: str) -> Any:
    """A source of calibration as conf/ composes it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return instantiate(compose("bench", list(words)).calibration)


def other_run(run: str, root: Path, *words: str) -> OtherRun:
    found = calibration("calibration=run", f"calibration.run={run}", f"calibration.roots=[{root}]", *words)
    assert isinstance(found, OtherRun)
    return found


def run_of(run_id: str, *, rate: float, seed: int, requests: int = 150, truth: Mapping[str, float] = TRUTH) -> Run:
    """A run at so many requests/s."""
    rng = np.random.default_rng(seed)
    sent = np.cumsum(rng.exponential(1 / rate, requests))
    run = make_measured([(float(t), int(rng.integers(20, 900)), int(rng.integers(5, 60))) for t in sent])
    run = dataclasses.replace(run, run_id=run_id, rate=rate, config={**run.config, "hardware": HARDWARE})
    profile = stretched(run, truth)
    limits = limits_of(run.limits, run.config, run_id)
    served = serve(run.trace_as_sent(), limits, MeasuredStepTime(profile), frontend=frontend_of(truth, station(run)))
    records = [dataclasses.replace(r, arrival=m.arrival, sent=m.sent) for r, m in zip(served.records, run.records, strict=True)]
    return dataclasses.replace(run, records=tuple(records))


def stretched(run: Run, numbers: Mapping[str, float]) -> Any:
    """The profile that these numbers make of the roofline of the run's model."""
    return other_run(run.run_id, Path()).stretching(run).at(numbers)


def station(run: Run) -> Station:
    """The API servers of our own simulator before an engine of this kind."""
    found: Station | None = native().frontend.station(run.system, "ids")
    assert found is not None
    return found


def latencies(run: Run) -> Any:
    """TTFT, TPOT, E2E in s, a row per request."""
    rows = [(r.first_token or 0.0, r.finished or 0.0, r.sent or 0.0, r.output_tokens or 1) for r in run.records]
    return np.array([(first - sent, (last - first) / max(1, n - 1), last - sent) for first, last, sent, n in rows])
