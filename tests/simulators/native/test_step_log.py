"""The sglang policy against step logs: of our own engine it finds every step again, of a real server 99 % and more.

The real ones (SGLang 0.5.23 on a CPU) are kept with what the test needs of a run. To keep another one:
`python -m tests.simulators.native.test_step_log RUN_FOLDER NAME`.
"""

import dataclasses
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.record import EngineLimits, Run
from results.storage.store import read_run
from simulators.errors import SimulatorError
from simulators.native.engine import run as serve_steps
from simulators.native.resolve import limits_of
from simulators.native.scheduling.policies import adapted
from simulators.native.scheduling.sglang import SglangScheduler
from simulators.native.serve import Queue
from simulators.native.served import Frontend
from tests.runs import make_run
from tests.simulators.native.cases import Linear
from tests.simulators.native.step_log import held_against_log
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
KEPT = Path(__file__).with_name("sglang_0.5.23_logs")
TOLD = ("schedule_policy", "schedule_conservativeness", "max_prefill_tokens", "enable_mixed_chunk", "disable_overlap_schedule")


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
    scheduler = SglangScheduler(limits)
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


def keep(run: Run) -> dict[str, Any]:
    """What the test needs of a measured run."""
    assert run.telemetry is not None
    steps = run.telemetry[run.telemetry["name"].str.startswith("step_")]
    server = run.config["engine"]["details"]["server_info"]
    return {
        "limits": dataclasses.asdict(run.limits),
        "server_info": {name: server[name] for name in TOLD},
        "block_size": run.trace.block_size,
        "requests": [[r.request_id, r.arrival, r.input_tokens, r.output_tokens, list(r.blocks)] for r in run.trace],
        "sent": {r.request_id: r.sent for r in run.records},
        "steps": [steps[column].tolist() for column in ("time", "name", "value")],
    }


def kept(name: str) -> Run:
    """The run again, as far as it was kept."""
    found = json.loads(gzip.decompress((KEPT / f"{name}.json.gz").read_bytes()))
    requests = tuple(
        Request(request_id=i, arrival=at, input_tokens=n, output_tokens=m, blocks=tuple(blocks))
        for i, at, n, m, blocks in found["requests"]
    )
    asked = make_run(trace=Trace(name=name, requests=requests, block_size=found["block_size"]), system="sglang")
    return dataclasses.replace(
        asked,
        records=tuple(dataclasses.replace(r, sent=found["sent"][str(r.request_id)]) for r in asked.records),
        limits=EngineLimits(**found["limits"]),
        config={**asked.config, "engine": {"details": {"server_info": found["server_info"]}}},
        telemetry=pd.DataFrame(dict(zip(("time", "name", "value"), found["steps"], strict=True))),
    )


@pytest.mark.parametrize(("name", "steps", "least"), [("azure_conv_like", 2038, 1.0), ("mooncake_like", 938, 0.998)])
def test_a_real_server_took_the_same_steps(name: str, steps: int, least: float) -> None:
    """172 requests of azure_conv_like at 60 % of capacity; 200 of mooncake_like, many of them sent at once, in a pool of 6,000 tokens."""
    held = held_against_log(kept(name), told_arrivals=True)
    assert len(held) == steps and sum(step.same for step in held) >= least * steps


def test_by_the_times_of_sending_the_steps_are_nearly_the_same() -> None:
    """What differs are requests that came within the front-end's few ms of a step's end."""
    held = held_against_log(kept("azure_conv_like"), told_arrivals=False, delay=0.002)
    assert sum(step.same for step in held) > 0.96 * len(held)


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    content = json.dumps(keep(read_run(Path(sys.argv[1])))).encode()
    (KEPT / f"{sys.argv[2]}.json.gz").write_bytes(gzip.compress(content, mtime=0))
