"""The sglang policy against a step log: of our own engine it finds every step again, and tells where another scheduler would differ."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from results.record import EngineLimits, Run
from simulators.native.engine import run as serve_steps
from simulators.native.policies import adapted
from simulators.native.resolve import limits_of
from simulators.native.serve import Frontend, Queue
from simulators.native.sglang import Sglang
from simulators.native.step_log import held_against_log
from simulators.system import SimulatorError
from tests.runs import make_run
from tests.simulators.native.cases import Linear
from workloads.trace import Request, Trace

LIMITS = EngineLimits(
    kv_tokens=3000,
    block_size=1,
    max_num_seqs=8,
    max_num_batched_tokens=128,
    max_model_len=1000,
    chunked_prefill=True,
    prefix_caching=True,
)
DELAY = 0.004


def logged(*, overlap: bool = False) -> Run:
    """A run of 120 requests, a third of which begin alike, as SGLang would log it."""
    rng = np.random.default_rng(5)
    requests = tuple(
        Request(
            request_id=i,
            arrival=float(t),
            input_tokens=int(rng.integers(70, 400)),
            output_tokens=int(rng.integers(1, 30)),
            blocks=(int(rng.integers(2)),) if i % 3 else (),
        )
        for i, t in enumerate(np.cumsum(rng.exponential(0.2, 120)))
    )
    asked = make_run(trace=Trace(name="logged", requests=requests, block_size=50), system="sglang")
    server = {"schedule_policy": "fcfs", "disable_overlap_schedule": not overlap}
    sent = tuple(dataclasses.replace(r, sent=r.arrival) for r in asked.records)
    asked = dataclasses.replace(asked, records=sent, limits=LIMITS, config={**asked.config, "engine": {"details": {"server_info": server}}})
    limits = adapted("sglang", limits_of(LIMITS, asked.config, "the test"))
    scheduler = Sglang(limits)
    rows = []
    steps = serve_steps(
        Queue(asked.trace_as_sent(), limits, Frontend(before=DELAY)).accepted, scheduler, Linear(fixed=0.02, per_token=2e-4)
    )
    for step in steps:
        batch, waiting = step.batch, len(scheduler.waiting)
        kind, told = "decode", {"batch": batch.decodes}
        if batch.prefill_tokens:
            cached = sum(n for _, n in batch.admitted)
            kind, told = "prefill", {"sequences": len(batch.sequences), "new_tokens": batch.prefill_tokens, "cached_tokens": cached}
        rows += [(step.end, f"step_{kind}_{name}", float(value)) for name, value in (told | {"queue": waiting}).items()]
    return dataclasses.replace(asked, telemetry=pd.DataFrame(rows, columns=["time", "name", "value"]))


@pytest.mark.parametrize("told_arrivals", [False, True])
def test_every_step_of_our_own_log_is_found_again(told_arrivals: bool) -> None:
    held = held_against_log(logged(), told_arrivals=told_arrivals, delay=DELAY)
    assert len(held) > 500 and all(step.same for step in held)
    assert sum(step.decided.cached for step in held) > 1000


def test_another_scheduler_is_told_from_it() -> None:
    run = logged()
    other = dataclasses.replace(run, limits=dataclasses.replace(LIMITS, max_num_batched_tokens=100))
    held = held_against_log(other, told_arrivals=True)
    assert sum(step.same for step in held) < 0.9 * len(held)


def test_overlapped_steps_cannot_be_followed() -> None:
    with pytest.raises(SimulatorError, match="decided steps while others ran"):
        held_against_log(logged(overlap=True), told_arrivals=True)
