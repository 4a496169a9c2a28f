"""A small study made by hand: two engines, three workloads, four loads, repeats, three simulators in their tracks. No engine is asked.

Engines and simulators are queues of `slots` servers (`_serve`) with their own step times, so that latencies have knees, saturated cells
pile up waiting requests, and a simulator's errors have causes. The same study for the same arguments.
"""

import dataclasses
import hashlib
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from results import database
from results.record import RequestRecord, Run, Track
from results.storage.store import write_run
from tests.runs import make_run, make_simulated, make_trace
from workloads.trace import Trace

ENGINES = {"vllm": 1.0, "sglang": 0.8}  # step times relative to the first
WORKLOADS = ("azure_conv_like", "azure_code_like", "mooncake_like")
LOADS = (0.3, 0.6, 0.9, 1.1)
SLOTS = 8
# (slots, time per prompt token, time per output token, fixed front-end time) of each simulator and track, over the engine's own
SIMULATORS: dict[tuple[str, Track], tuple[float, float, float, float]] = {
    ("vidur", "shipped"): (4.0, 0.45, 0.5, 0.0),
    ("vidur", "matched"): (1.0, 0.45, 0.5, 0.0),
    ("vidur", "calibrated"): (1.0, 0.93, 0.88, 0.0),
    ("native", "shipped"): (2.0, 1.5, 1.3, 1.0),
    ("native", "matched"): (1.0, 1.5, 1.3, 1.0),
    ("native", "calibrated"): (1.0, 1.0, 0.98, 0.9),
    ("aisimulate", "matched"): (1.0, 1.2, 0.7, 0.0),
}
COVERAGE = {
    "vidur": {"chunked_prefill": "yes", "prefix_caching": "no", "preemption": "no", "frontend_cost": "no"},
    "native": {"chunked_prefill": "yes", "prefix_caching": "yes", "preemption": "yes", "frontend_cost": "partly"},
    "aisimulate": {"chunked_prefill": "yes", "prefix_caching": "partly", "preemption": "yes", "frontend_cost": "no"},
}
FRONTEND = 0.006  # s


def make_study(
    *,
    name: str = "handmade",
    engines: Sequence[str] = tuple(ENGINES),
    workloads: Sequence[str] = WORKLOADS,
    loads: Sequence[float] = LOADS,
    num_requests: int = 60,
    repeats: int = 3,
) -> Iterator[Run]:
    """Every run of the study. The first load of each engine's first workload has `repeats` repeats. INVALID are the last repeat of the
    first engine, and the last load of the last engine's last workload: a cell without a valid run.
    """
    for engine in engines:
        for workload in workloads:
            for rho in loads:
                repeated = (workload, rho) == (workloads[0], loads[0])
                for repeat in range(repeats if repeated else 1):
                    measured = _measured(name, engine, workload, rho, repeat, num_requests)
                    lost_repeat = repeat > 0 and (engine, repeat) == (engines[0], repeats - 1)
                    if lost_repeat or (engine, workload, rho) == (engines[-1], workloads[-1], loads[-1]):
                        measured = dataclasses.replace(measured, valid=False, invalid_reason="dispatch lag p99 31 ms above 10 ms")
                    yield measured
                    yield from (_simulated(measured, system, track) for system, track in SIMULATORS)


def build_study(folder: Path, runs: Iterator[Run] | Sequence[Run]) -> Path:
    """Store the runs under folder/runs and return the database built from them."""
    for run in runs:
        write_run(folder / "runs", run)
    database.build([folder / "runs"], folder / "plumbline.duckdb")
    return folder / "plumbline.duckdb"


def _measured(study: str, engine: str, workload: str, rho: float, repeat: int, num_requests: int) -> Run:
    speed = ENGINES[engine]
    seed = WORKLOADS.index(workload) if workload in WORKLOADS else 9
    asked = make_trace(num_requests, seed=seed, rate=1.0, name=workload)
    capacity = SLOTS / float(np.mean([_service(r.input_tokens, r.output_tokens, speed, 1.0) for r in asked]))
    rate = rho * capacity
    requests = tuple(dataclasses.replace(r, arrival=r.arrival / rate) for r in asked)
    trace = Trace(name=workload, requests=requests, block_size=16)
    cell = hashlib.sha256(f"{study} {engine} {workload} {rho}".encode()).hexdigest()[:12]
    point = hashlib.sha256(f"{cell} {repeat}".encode()).hexdigest()[:12]
    blank = make_run(f"{engine}-{workload}-rho{rho}-{repeat}", system=engine, repeat=repeat, trace=trace, rate=rate, telemetry=False)
    rng = np.random.default_rng([seed, repeat, round(100 * rho)])
    records = _serve(trace, slots=SLOTS, prefill=speed, decode=speed, frontend=FRONTEND * speed, rng=rng, knows_schedule=engine == "vllm")
    config = {**blank.config, "load": {"rho": rho}, "study": {"name": study, "cell": cell, "point": point}}
    return dataclasses.replace(blank, records=records, rho=rho, wall_s=trace.duration + 3.0, config=config)


def _simulated(measured: Run, system: str, track: Track) -> Run:
    slots, prefill, decode, frontend = SIMULATORS[system, track]
    speed = ENGINES[measured.system]
    records = _serve(
        measured.trace,
        slots=int(SLOTS * slots),
        prefill=prefill * speed,
        decode=decode * speed,
        frontend=frontend * FRONTEND * speed,
        rng=None,
        knows_schedule=True,
    )
    simulated = make_simulated(measured, system=system, track=track)
    config = {**measured.config, "simulator": {"name": system, "coverage": COVERAGE[system]}}
    return dataclasses.replace(simulated, records=records, wall_s=1.5 if system == "vidur" else 0.05, config=config)


def _service(input_tokens: int, output_tokens: int, speed: float, busy: float) -> float:
    return speed * (2e-4 * input_tokens + 0.008 * (1 + busy) * output_tokens)


def _serve(
    trace: Trace, *, slots: int, prefill: float, decode: float, frontend: float, rng: np.random.Generator | None, knows_schedule: bool
) -> tuple[RequestRecord, ...]:
    """First come, first served by `slots` servers whose decode slows down as they fill. rng: a few per cent of noise; None: none."""
    free = [0.0] * slots
    records = []
    for request in trace:
        start = max(request.arrival, heapq.heappop(free))
        busy = sum(end > start for end in free) / SLOTS
        jitter = 1.0 if rng is None else float(rng.lognormal(0, 0.04))
        first = start + frontend + jitter * prefill * 2e-4 * request.input_tokens
        finished = first + jitter * decode * 0.008 * (1 + busy) * (request.output_tokens - 1)
        heapq.heappush(free, finished)
        records.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival + 1e-4,
                scheduled=start + frontend / 2 if knows_schedule else None,
                first_token=first,
                finished=finished,
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
            )
        )
    return tuple(records)
