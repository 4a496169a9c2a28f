"""One set-up for every load client: a null server pinned to one core, the client to another, 64 tokens a request, 20 ms to the first
token, 10 ms between tokens. All times are CLOCK_MONOTONIC, which both processes share.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hydra.utils import instantiate

from harness.engine import Endpoint
from harness.replay.client import Client
from results.project.folder import ROOT
from results.record import EngineLimits
from tests.choices import settings_of
from tests.stand_ins import null_server
from workloads.trace import Request, Trace

VLLM_PYTHON = ROOT / ".envs" / "vllm_cpu" / "bin" / "python"
INPUT, OUTPUT, TTFT, ITL = 16, 64, 0.02, 0.01
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run says of its client. Milliseconds, but for the rates (per s) and the CPU (s per 1,000 token events).

    lateness: server receive - schedule. bias: the client's time from sending to the first token - the server's own. own: the server's time
    from receiving to its first write, late by `server_late` at p99. cpu: of the run alone; total_cpu: with what comes before and after it.
    """

    offered: float
    achieved: float
    earliest: float
    lateness_p50: float
    lateness_p99: float
    bias_p50: float
    bias_p99: float
    server_late: float
    cpu: float
    total_cpu: float
    busy: float
    load: float


def poisson(rate: float, count: int, seed: int = 0) -> Trace:
    """`count` requests of this set-up's lengths at `rate` per s."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    requests = [Request(request_id=i, arrival=float(a), input_tokens=INPUT, output_tokens=OUTPUT) for i, a in enumerate(arrivals)]
    return Trace(name=f"poisson-{rate:g}", requests=tuple(requests))


def run_plumbline(trace: Trace, scratch: Path) -> Figures:
    """Our client, in this process."""
    client = our_client()
    with null(scratch) as url, pinned():
        endpoint = Endpoint(url=url, served_model="none", system="null", version=None, limits=EngineLimits())
        prompts = [[i] * INPUT for i in range(len(trace))]
        cpu = time.process_time()
        replay = client.replay(endpoint, trace, prompts)
        total_cpu = time.process_time() - cpu
    failed = [r.error for r in replay.records if r.error is not None]
    assert not failed, f"{len(failed)} requests failed, e.g. {failed[0]}"
    sent = np.array([r.sent for r in replay.records], float)
    ttft = np.array([r.first_token for r in replay.records], float) - sent
    cpus = (replay.cpu_s, total_cpu, replay.wall_s)
    return _figures(trace, replay.epoch, ttft, scratch, cpus)


def run_vllm(trace: Trace, scratch: Path) -> Figures:
    """`vllm bench serve` on the same schedule (its timed_trace dataset)."""
    folder = instantiate(settings_of("model", "tiny")).folder(scratch / "models")
    rows = [{"timestamp": r.arrival, "input_length": INPUT, "output_length": OUTPUT, "hash_ids": [r.request_id]} for r in trace]
    (scratch / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "backend": "openai", "model": str(folder), "dataset-name": "timed_trace", "dataset-path": str(scratch / "trace.jsonl"),
        "num-prompts": str(len(trace)), "request-id-prefix": "", "ready-check-timeout-sec": "0",
        "result-filename": str(scratch / "vllm.json"),
    }  # fmt: skip
    with null(scratch) as url:
        command = ["taskset", "-c", str(CLIENT_CORE), str(VLLM_PYTHON), str(ROOT / "tests/perf/vllm_bench.py"), str(scratch / "marks.json")]
        command += [word for name, value in options.items() for word in (f"--{name}", value)]
        command += ["--base-url", url, "--save-result", "--save-detailed", "--disable-tqdm"]
        with (scratch / "vllm.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=600)
    result, marks = json.loads((scratch / "vllm.json").read_text()), json.loads((scratch / "marks.json").read_text())
    assert result["completed"] == len(trace), f"{len(trace) - result['completed']} requests of vllm bench failed"
    return _figures(trace, marks["epoch"], np.array(result["ttfts"]), scratch, (marks["cpu_s"], marks["cpu_s"], result["duration"]))


def median(figures: Sequence[Figures]) -> Figures:
    """Of repeats, figure by figure; the earliest of all stays."""
    middle = {name: float(np.median([getattr(f, name) for f in figures])) for name in Figures.__dataclass_fields__}
    return Figures(**(middle | {"earliest": min(f.earliest for f in figures)}))


def our_client() -> Client:
    """Our client as the bench makes it."""
    client = instantiate(settings_of("client", "default"))
    assert isinstance(client, Client)
    return client


def _figures(trace: Trace, epoch: float, ttft: Floats, scratch: Path, cpus: tuple[float, float, float]) -> Figures:
    rows = [json.loads(line) for line in (scratch / "server.log").read_text().splitlines()]
    rows.sort()
    assert [row[0] for row in rows] == list(range(len(trace))), "the server saw other requests than were asked"
    _, received, written, *_ = np.array(rows, float).T
    lateness = received - epoch - np.array([r.arrival for r in trace])
    own = written - received
    cpu, total_cpu, wall = cpus
    thousands = len(trace) * OUTPUT / 1000
    return Figures(
        offered=(len(trace) - 1) / (trace.duration - trace.requests[0].arrival),
        achieved=float((len(trace) - 1) / np.ptp(received)),
        earliest=float(lateness.min() * 1e3),
        lateness_p50=ms(lateness, 50),
        lateness_p99=ms(lateness, 99),
        bias_p50=ms(ttft - own, 50),
        bias_p99=ms(ttft - own, 99),
        server_late=ms(own - TTFT, 99),
        cpu=cpu / thousands,
        total_cpu=total_cpu / thousands,
        busy=cpu / wall,
        load=os.getloadavg()[0],
    )


def ms(values: Floats, percentile: float) -> float:
    return float(np.percentile(values, percentile) * 1e3)


@contextmanager
def null(scratch: Path, *more: str) -> Iterator[str]:
    """A null server on its core, with more arguments of its own; its log is whole when the context ends."""
    log = scratch / "server.log"
    log.unlink(missing_ok=True)
    arguments = ["--ttft", str(TTFT), "--itl", str(ITL), "--log", str(log), *more]
    with null_server.running(*arguments, prefix=("taskset", "-c", str(SERVER_CORE))) as running:
        yield running.url


@contextmanager
def nulls(scratch: Path, number: int) -> Iterator[tuple[str, list[Path]]]:
    """So many null servers at one port, each on a core of its own; and their logs, which are whole when the context ends."""
    logs = [scratch / f"server{i}.log" for i in range(number)]
    with ExitStack() as stack:
        port, url = "0", ""
        for core, log in zip(CORES, logs, strict=False):
            arguments = ["--ttft", str(TTFT), "--itl", str(ITL), "--log", str(log), "--port", port, "--share-port"]
            url = stack.enter_context(null_server.running(*arguments, prefix=("taskset", "-c", str(core)))).url
            port = url.rpartition(":")[2]
        yield url, logs


@contextmanager
def pinned(cores: Sequence[int] = (CLIENT_CORE,)) -> Iterator[None]:
    """This process, and what it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
