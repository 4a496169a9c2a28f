"""One simulation in a process of its own: `python -m tests.perf.simulate_once NAME REQUESTS SCRATCH`; prints its figures as JSON.

The trace and the step times are the same for all: Azure-conv-like lengths at rho ~0.8 of an engine with vLLM's limits, and a profile of a
known law that covers them, so every simulator is calibrated from the very same points.
"""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from results.profile import Profile
from results.record import Run
from tests.perf.test_native import azure_like
from tests.simulators.foreign.copies import configured
from tests.simulators.profiles import Law, make_measured, make_profile, with_limits

RATE = 12.0  # requests/s
AGAIN = 3  # calls after the first, in this process
LIMITS = with_limits(kv_tokens=480_000, max_num_seqs=128, max_num_batched_tokens=2048, max_model_len=8192)


def asked(requests: int) -> tuple[Run, Profile]:
    """The run to simulate, and the profile of its engine."""
    trace = azure_like(RATE)
    rows = [(r.arrival + 1e-3, r.input_tokens, r.output_tokens) for r in trace.requests[:requests]]
    return make_measured(rows, limits=LIMITS), make_profile(Law(), limits=LIMITS)


def main(name: str, requests: int, scratch: Path) -> dict[str, Any]:
    """process_s, process_memory: of the foreign program, None for one that runs in this process. simulate_s: inside it, where told;
    in this process: of the last simulation. call_s: of the adapter, from the measured run to the simulated one: what a bench waits for.
    In this process it is the median of the calls after the first (first_s), which may compile; in one of them Python tidies up all that
    was imported, which takes longer than the call.
    """
    measured, profile = asked(requests)
    simulator = configured(name, **({"operations": []} if name == "vidur" else {}))  # of the matched track, which is not run here
    took = []
    for attempt in range(1 + AGAIN if simulator.environment is None else 1):
        (folder := scratch / f"{os.getpid()}-{attempt}").mkdir(parents=True)
        start = time.perf_counter()
        run = simulator.simulate(measured, track="calibrated", profile=profile, scratch=folder)
        took.append(time.perf_counter() - start)
    timing = {**run.config["simulator"], **(run.config["simulator"].get("timing") or {})}
    ttft = np.mean([r.first_token - r.arrival for r in run.records if r.first_token is not None])
    return {
        "answered": sum(r.finished is not None for r in run.records),
        "mean_ttft": float(ttft),
        "first_s": took[0],
        "call_s": float(np.median(took[1:] or took)),
        "simulate_s": timing.get("simulate_s", run.wall_s if simulator.environment is None else None),
        "train_s": timing.get("train_s"),
        "process_s": timing.get("wall_s"),
        "process_memory": timing.get("peak_memory"),
        "limits": dataclasses.asdict(LIMITS),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
