"""How fast our own simulator is: requests a second of both engines, a million requests from a file to a run folder, and how it grows.

The million: lengths drawn from Azure's conversation trace of 2023 (else from the lognormals of conf/workload/azure_conv_like at its
means), at rho 0.8 of the simulated engine's own capacity: Llama-3.1-8B on one H200, step times by the roofline. The plots of how it grows
go to .benchmarks/native_growth.html.
Beside the other simulators: test_simulators.py.
"""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from results.project.folder import ROOT
from simulators.native.planning import settings
from simulators.native.planning.deployment import Deployment
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Linear
from workloads.columns import RequestColumns
from workloads.files import write_csv, write_parquet
from workloads.lengths import Lognormal
from workloads.trace import Columns, Request, Trace

REQUESTS = 2000
STEP_TIME = Linear(fixed=0.008, per_token=4e-5)
LIMITS = Limits(kv_blocks=30_000, block_size=16, max_num_seqs=256, max_num_batched_tokens=2048, max_model_len=8192)
MILLION = 1_000_000
RHO = 0.8
ENGINE = ("model=llama_3_1_8b", "hardware=h200")
AZURE = Path(os.environ.get("PLUMBLINE_DATA", ROOT.parent / "shared" / "data")) / "traces" / "azure_llm_2023_conv.csv"


def azure_like(rate: float) -> Trace:
    """Mean 1,150 tokens in and 210 out, lognormal, as in the Azure conversation trace of 2023."""
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(1 / rate, REQUESTS))
    inputs = np.clip(rng.lognormal(6.55, 1.0, REQUESTS), 8, 6000).astype(int)
    outputs = np.clip(rng.lognormal(5.0, 0.8, REQUESTS), 2, 1000).astype(int)
    rows = zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    return Trace(
        name="azure_like",
        requests=tuple(Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m) for i, (a, n, m) in enumerate(rows)),
    )


def azure(requests: int, rate: float, *, output_scale: float = 1.0) -> Trace:
    """So many requests of that trace's lengths, Poisson arrivals at this rate (requests/s; inf: all at once)."""
    rng = np.random.default_rng([requests, 8])
    if AZURE.is_file():
        rows = np.loadtxt(AZURE, delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64)
        inputs, outputs = rows[rng.integers(0, len(rows), requests)].T
    else:
        inputs, outputs = Lognormal(mean=1155, cv=0.96).sample(rng, requests), Lognormal(mean=211, cv=0.77).sample(rng, requests)
    outputs = np.maximum(1, np.round(output_scale * outputs)).astype(np.int64)
    arrival = np.cumsum(rng.exponential(1 / rate, requests)) if np.isfinite(rate) else np.zeros(requests)
    columns = Columns(request_id=np.arange(requests), arrival=arrival, input_tokens=inputs, output_tokens=outputs)
    return Trace(name=f"azure_{requests}", requests=RequestColumns(columns))


def h200(*words: str) -> Deployment:
    return settings.deployment(settings.settings([*ENGINE, *words]))


def capacity(deployment: Deployment, *, output_scale: float = 1.0) -> float:
    """Requests/s while all slots are busy: between the first and the last tenth of 5,000 requests that come at once."""
    records = deployment.serve(azure(5000, np.inf, output_scale=output_scale), token_times=False).served.records
    finished = np.sort([r.finished for r in records if r.finished is not None])
    return float(4000 / (finished[4499] - finished[499]))


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("engine", ["readable", "compiled"])
def test_requests_per_second(benchmark: Any, engine: Literal["readable", "compiled"], in_flight: int) -> None:
    trace = azure_like(rate=12.0)
    limits = Limits(**{name: getattr(LIMITS, name) for name in LIMITS.__dataclass_fields__} | {"in_flight": in_flight})

    def simulate() -> Served:
        return serve(trace, limits, STEP_TIME, frontend=Frontend(), engine=engine)

    served = benchmark.pedantic(simulate, rounds=5, warmup_rounds=1)
    tokens = sum(r.output_tokens or 0 for r in served.records)
    best = benchmark.stats.stats.min
    benchmark.extra_info.update(requests_per_s=REQUESTS / best, tokens_per_s=tokens / best, steps=served.steps)
    print(
        f"\n{engine}, in_flight {in_flight}: {best:.4f} s, {REQUESTS / best:.0f} requests/s, {tokens / best:.0f} output tokens/s, "
        f"{served.steps / best:.0f} steps/s"
    )


def alone(*words: object) -> tuple[float, float, str]:
    """`python -m simulators.native` on one core: seconds and peak memory (GB) of the process, and what it printed."""
    command = ["taskset", "-c", "0", sys.executable, "-m", "simulators.native", *map(str, words)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, done.stdout


def simulated(printed: str) -> float:
    """Seconds of the simulation alone."""
    found = re.search(r"simulated in ([0-9.]+) s", printed)
    assert found is not None
    return float(found[1])


def test_a_process_of_2000_requests(benchmark: Any, tmp_path: Path) -> None:
    """From the command line to the printed table, the kernel's machine code on disk already."""
    trace = azure(REQUESTS, RHO * capacity(h200()))
    write_parquet(trace, tmp_path / "trace.parquet")
    words = (*ENGINE, f"trace={tmp_path / 'trace.parquet'}")
    alone(*words)
    seconds, _, printed = benchmark.pedantic(alone, args=words, rounds=3)
    print(f"\n2,000 requests: process {benchmark.stats.stats.min:.3f} s, simulation {simulated(printed):.4f} s (last: {seconds:.3f} s)")


def test_a_cold_plan_of_2000_requests(benchmark: Any, tmp_path: Path) -> None:
    """`./plumbline plan` of a CSV trace, 200 tokens of output each, from the shell to the printed table; medians of 10 processes."""
    rng = np.random.default_rng(0)
    arrivals, inputs = np.cumsum(rng.exponential(1 / 8, REQUESTS)), rng.integers(100, 1500, REQUESTS)
    columns = Columns(np.arange(REQUESTS), arrivals, inputs, np.full(REQUESTS, 200))
    write_csv(Trace(name="even", requests=RequestColumns(columns)), tmp_path / "trace.csv")
    command = ["./plumbline", "plan", *ENGINE, f"trace={tmp_path / 'trace.csv'}"]
    used: list[float] = []

    def plan() -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    plan()  # compiles and keeps what is not on disk yet
    benchmark.pedantic(plan, rounds=10)
    print(f"\n2,000 requests, cold: {benchmark.stats.stats.median:.3f} s of wall time, {np.median(used[1:]):.3f} s of CPU time")


@pytest.mark.parametrize("token_times", [False, True])
def test_a_million_requests(benchmark: Any, token_times: bool, tmp_path: Path) -> None:
    """From a Parquet file to the run folder and the printed table: at most 20 s and 4 GB on one core (without token times)."""
    rate = RHO * capacity(h200())
    trace = azure(MILLION, rate)
    write_parquet(trace, tmp_path / "trace.parquet")
    words = (*ENGINE, f"trace={tmp_path / 'trace.parquet'}", f"token_times={str(token_times).lower()}", f"out={tmp_path / 'runs'}")
    seconds, memory, printed = benchmark.pedantic(alone, args=words, rounds=1)
    size = sum(f.stat().st_size for f in (tmp_path / "runs").rglob("*.parquet")) / 1e9
    print(
        f"\n{MILLION:,} requests at {rate:.1f}/s, token times {'kept' if token_times else 'left out'}: process {seconds:.1f} s, simulation "
        f"{simulated(printed):.1f} s, at most {memory:.2f} GB of memory, run folder {size:.2f} GB\n{printed}"
    )


def test_growth(benchmark: Any) -> None:
    """Seconds against requests, output length and replicas, each at rho 0.8: drawn, with the straight line through the largest."""
    rate = RHO * capacity(h200())
    requests = [10_000, 20_000, 50_000, 100_000, 200_000]
    scales = [0.5, 1.0, 2.0, 4.0]
    replicas = [1, 2, 4]

    def best(simulate: Callable[[], Served]) -> float:
        return min(simulate().seconds for _ in range(2))

    def replicated(n: int) -> Served:
        return h200(f"arrangement.instances={n}").serve(azure(20_000 * n, n * rate)).served

    def measure() -> list[tuple[str, list[float], list[float]]]:
        return [
            ("requests", [*map(float, requests)], [best(lambda n=n: h200().serve(azure(n, rate)).served) for n in requests]),  # type: ignore[misc]
            (
                "mean output tokens (20,000 requests)",
                [211 * s for s in scales],
                [best(lambda s=s: h200().serve(_scaled(s)).served) for s in scales],  # type: ignore[misc]
            ),
            ("replicas (20,000 requests each)", [*map(float, replicas)], [best(lambda n=n: replicated(n)) for n in replicas]),  # type: ignore[misc]
        ]

    lines = benchmark.pedantic(measure, rounds=1)
    figure = make_subplots(rows=1, cols=len(lines), subplot_titles=[name for name, _, _ in lines])
    for column, (name, x, y) in enumerate(lines, 1):
        slope = np.polyfit(np.log(x), np.log(y), 1)[0]
        figure.add_trace(go.Scatter(x=x, y=y, mode="markers+lines", name="measured", showlegend=column == 1), row=1, col=column)
        straight = [value * y[-1] / x[-1] for value in x]
        figure.add_trace(go.Scatter(x=x, y=straight, line={"dash": "dot"}, name="proportional", showlegend=column == 1), row=1, col=column)
        print(f"\n{name}: " + ", ".join(f"{a:g}: {b:.3f} s" for a, b in zip(x, y, strict=True)) + f"; exponent {slope:.2f}")
    figure.update_yaxes(title="s", rangemode="tozero").update_xaxes(rangemode="tozero")
    path = ROOT / ".benchmarks" / "native_growth.html"
    path.parent.mkdir(exist_ok=True)
    figure.write_html(path)
    print(f"plot: {path}")


def _scaled(scale: float) -> Trace:
    return azure(20_000, RHO * capacity(h200(), output_scale=scale), output_scale=scale)
