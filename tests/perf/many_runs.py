"""Runs as large campaigns have them, made from a seed: measured runs, and simulated ones held against each, all with token times."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from results.record import SLO, EngineLimits, Run, Track
from results.record_table import COLUMNS, RecordTable
from results.storage.store import write_run
from results.token_times import TokenTimes
from workloads.trace import Request, Trace

STEP = 0.02  # s of a step, on average
SLOW = 0.01  # share of the steps that are ten times as long: prompts beside which decodes wait
SIMULATORS: tuple[tuple[str, Track], ...] = tuple(
    (system, track)
    for system in ("native", "aisimulate", "vidur", "splitwise_sim", "distserve_sim")
    for track in ("shipped", "matched", "calibrated")
)


def write_measured_and_simulated(root: Path, *, measured: int, simulated: int, requests: int, tokens: int, first: int = 0) -> None:
    """Write measured * (1 + simulated) runs of so many requests, each of so many tokens. Runs number `first` on are made: the same ones
    for the same numbers. Two measured runs after each other are repeats of one cell, on requests of their own.
    """
    for k in range(first, first + measured):
        truth = _run(k, requests, tokens)
        write_run(root, truth)
        for place, (system, track) in enumerate(SIMULATORS[:simulated]):
            write_run(root, _simulated(truth, system, track, _records(truth.trace, seed=(k, 1 + place), step=STEP * (0.9 + 0.02 * place))))


def _run(k: int, requests: int, tokens: int) -> Run:
    rate = requests / 60.0
    rng = np.random.default_rng([k, 0])
    arrivals = np.cumsum(rng.exponential(1 / rate, requests)).tolist()
    inputs = rng.integers(100, 2000, requests).tolist()
    trace = Trace(
        name="many",
        requests=tuple(
            Request(request_id=i, arrival=t, input_tokens=n, output_tokens=tokens)
            for i, (t, n) in enumerate(zip(arrivals, inputs, strict=True))
        ),
    )
    return Run(
        run_id=f"vllm-many-{k}",
        kind="measured",
        system="vllm",
        version="0.1",
        workload="many",
        model="tiny",
        hardware="h200",
        trace=trace,
        records=_records(trace, seed=(k, 0), step=STEP),
        limits=EngineLimits(kv_tokens=1_000_000, block_size=16, max_num_seqs=1024, max_num_batched_tokens=8192, max_model_len=8192),
        started_at="2026-01-02T03:04:05+00:00",
        wall_s=70.0,
        slo=SLO(ttft=1.0, tpot=0.1),
        rho=0.6,
        rate=rate,
        repeat=k % 2,
        config={"engine": {"name": "vllm"}, "model": {}, "workload": {"name": f"many-{k // 2}"}, "load": {"rho": 0.6}, "seed": k // 2},
        provenance={"host": "made from a seed"},
    )


def _simulated(measured: Run, system: str, track: Track, records: RecordTable) -> Run:
    return dataclasses.replace(
        measured,
        run_id=f"{measured.run_id}--{system}-{track}",
        kind="simulated",
        system=system,
        track=track,
        measured_run_id=measured.run_id,
        records=records,
        wall_s=1.0,
        config={"simulator": {"name": system, "coverage": {}}},
    )


def _records(trace: Trace, *, seed: tuple[int, int], step: float) -> RecordTable:
    """Records of steps that all requests in the batch share, as engines and simulators have them."""
    rng = np.random.default_rng([*seed, 1])
    arrivals = np.array([r.arrival for r in trace])
    lengths = np.array([r.output_tokens for r in trace])
    inputs = np.array([r.input_tokens for r in trace])
    steps = int(arrivals[-1] / step * 1.2) + 2 * int(lengths.max())
    clock = np.cumsum(step * rng.gamma(20, 1 / 20, steps) * np.where(rng.random(steps) < SLOW, 10, 1))
    start = np.searchsorted(clock, arrivals + 1e-4 * inputs)
    times = TokenTimes(records=len(trace), clock=clock, record=np.arange(len(trace)), start=start, length=lengths)
    columns = {
        "request_id": np.arange(len(trace)),
        "arrival": arrivals,
        "sent": arrivals,
        "scheduled": arrivals + 1e-3,
        "first_token": clock[start],
        "finished": clock[start + lengths - 1],
        "input_tokens": inputs,
        "output_tokens": lengths,
        "cached_tokens": np.zeros(len(trace), np.int64),
        "error": pa.nulls(len(trace), pa.string()),
    }
    return RecordTable(pa.table([columns[name] for name in COLUMNS.names], schema=COLUMNS), times)
