"""Runs for comparisons: as arrays, for laws over many seeds, and as folders, for the command line."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from analysis.comparison.requests_spread import SampledRun
from analysis.comparison.sides import Repeats, Side
from analysis.data import Key, RunRow
from analysis.requests import RunRequests
from analysis.stats import Values
from results.record import RequestRecord, Run
from results.storage.store import write_run
from tests.runs import make_run

TTFT: Key = ("ttft", "mean")
MOMENTS = ("sent", "scheduled", "first_token", "finished")
UNASKED = duckdb.connect()  # of sides whose values are given


def row(run_id: str, *, rho: float | None = None, trace: str = "t", kind: str = "measured") -> RunRow:
    """A run of which only its name, its load and its trace matter."""
    return RunRow(
        run_id=run_id,
        kind=kind,
        system="vllm",
        version=None,
        track=None,
        measured_run_id=None,
        workload="w",
        model="m",
        hardware="h",
        rho=rho,
        rate=None,
        repeat=0,
        trace_sha256=trace,
        valid=True,
        invalid_reason=None,
        started_at=datetime(2026, 1, 1),
        wall_s=1.0,
        window_start=None,
        window_end=None,
        slo_ttft=None,
        slo_tpot=None,
        slo_e2e=None,
        tensor_parallel=1,
        path="",
        config={},
        provenance={},
        limits={},
    )


def of_values(name: str, values: Sequence[float], key: Key = TTFT) -> tuple[Side, Repeats]:
    """A side of one cell, whose repeats have these values of one figure."""
    runs = [row(f"{name}{repeat}") for repeat in range(len(values))]
    known: Mapping[str, Mapping[Key, float | None]] = {run.run_id: {key: value} for run, value in zip(runs, values, strict=True)}
    cell = Repeats(runs=runs, valid=runs)
    return Side(name=name, connection=UNASKED, cells=[cell], values=known), cell


def of_latencies(run_id: str, ttft: Values, *, rho: float | None = None, trace: str = "t") -> SampledRun:
    """A run of requests a second apart, with these times to the first token and one output token each."""
    n = len(ttft)
    ones = np.ones(n)
    columns = {
        **dict.fromkeys(("output_throughput", "goodput", "in_window"), ones),
        **dict.fromkeys(("tpot", "e2e"), np.full(n, np.nan)),
        "arrival": np.arange(n, dtype=float),
        "ttft": ttft,
    }
    return SampledRun(run=row(run_id, rho=rho, trace=trace), requests=RunRequests(run_id, np.arange(n), columns), gaps=None)


def stored(root: Path, *, scale: float = 1.0, repeats: int = 3, seed: int = 0, rho: float | None = None, **changes: object) -> list[Run]:
    """Repeats of one cell in `root`: 150 requests, their latencies times `scale`, at 5 requests/s."""
    runs = []
    for repeat in range(repeats):
        run = make_run(f"{root.name}-{repeat}", num_requests=150, seed=seed, repeat=repeat, rho=rho, telemetry=False)
        run = dataclasses.replace(run, records=tuple(_slower(record, scale) for record in run.records), **changes)  # type: ignore[arg-type]
        write_run(root, run)
        runs.append(run)
    return runs


def _slower(record: RequestRecord, scale: float) -> RequestRecord:
    def later(moment: float) -> float:
        return record.arrival + scale * (moment - record.arrival)

    moments: dict[str, Any] = {name: later(getattr(record, name)) for name in MOMENTS}
    return dataclasses.replace(record, **moments, token_times=tuple(later(time) for time in record.token_times or ()))
