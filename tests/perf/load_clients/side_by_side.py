"""One client on the common schedule: what it adds to each number, and what it costs. All clocks are CLOCK_MONOTONIC of one machine."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.perf.clients import CLIENT_CORE, ITL, OUTPUT, TTFT, Figures, Floats, ms, null, run_plumbline, run_vllm
from tests.perf.load_clients.foreign import Foreign, environ
from workloads.trace import Trace

LIMIT = 150.0  # s that a client may take beyond its schedule; it is ended then
UNTOLD = 0.01  # of the requests that a client may leave out of what it writes; one left out shifts those behind it by one place
LOOK = 0.2  # s between two looks at its CPU time


class NoFigures(RuntimeError):
    """A client that cannot be measured here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A client's figures, in ms but for: achieved (of the rate asked), cpu (s per 1,000 token events), busy (share of its core).

    lateness: None where its schedule is not known, or it tells no second 0 (then it is over the least lateness of all; see `relative`).
    """

    name: str
    achieved: float
    lateness: tuple[float, float] | None  # p50, p99: server receive - schedule
    bias: tuple[float, float]  # p50, p99: the client's time to the first token - the server's own
    cpu: float
    busy: float
    relative: bool = False  # whether lateness counts from its own least
    failed: int = 0  # requests of which it tells no first token


def of_figures(name: str, figures: Figures) -> Row:
    """Ours, and vLLM's, whose second 0 is known."""
    lateness, bias = (figures.lateness_p50, figures.lateness_p99), (figures.bias_p50, figures.bias_p99)
    achieved = figures.achieved / figures.offered
    return Row(name=name, achieved=achieved, lateness=lateness, bias=bias, cpu=figures.cpu, busy=figures.busy)


def plumbline(trace: Trace, scratch: Path) -> Row:
    """Our client."""
    return of_figures("Plumbline", run_plumbline(trace, scratch))


def vllm(trace: Trace, scratch: Path) -> Row:
    """vLLM's Python client."""
    return of_figures("vLLM bench serve", run_vllm(trace, scratch))


def foreign(client: Foreign, trace: Trace, scratch: Path) -> Row:
    """Any other one."""
    with null(scratch, *client.server) as url:
        seen = launched(client, client.command(trace, url, scratch), scratch, trace.duration + LIMIT)
    rows = np.array(sorted(json.loads(line)[1:3] for line in (scratch / "server.log").read_text().splitlines()), float)
    if len(rows) != len(trace):
        raise NoFigures(f"{len(rows)} of {len(trace)} requests reached the server")
    return _row(client, trace, rows, client.ttfts(scratch), seen)


def launched(client: Foreign, arguments: Sequence[str], scratch: Path, seconds: float) -> list[tuple[float, float]]:
    """Run it to its end on its core; (time, CPU seconds so far) of it and all that it started. Raises NoFigures where it fails."""
    words = ["taskset", "-c", str(CLIENT_CORE), str(client.executable), *arguments]
    with (scratch / "client.log").open("w") as log:
        process = subprocess.Popen(words, cwd=scratch, env=environ(client), stdout=log, stderr=log, start_new_session=True)
        with _cpu_seen(process) as seen:
            code = _ended(process, seconds)
    if code != 0:
        said = (scratch / "client.log").read_text().strip().splitlines()[-1:] or ["nothing"]
        raise NoFigures("did not end in time" if code is None else f"exit code {code}: {said[0][:120]}")
    return seen


def cpu_between(seen: list[tuple[float, float]], first: float, last: float) -> float:
    """CPU seconds between two times, of what `launched` saw."""
    return float(np.diff(np.interp([first, last], *np.array(seen).T))[0])


def _row(client: Foreign, trace: Trace, rows: Floats, ttfts: Floats, seen: list[tuple[float, float]]) -> Row:
    received, written = rows.T
    late = received - np.array([request.arrival for request in trace])
    late -= late.min()
    missing = len(trace) - len(ttfts)
    if not 0 <= missing <= UNTOLD * len(trace):
        raise NoFigures(f"it tells of {len(ttfts)} of {len(trace)} requests")
    ttfts = np.append(ttfts, np.full(missing, np.nan))
    bias = (ttfts - (written - received))[~np.isnan(ttfts)]
    first, last = received[0], received[-1] + TTFT + (OUTPUT - 1) * ITL
    cpu = cpu_between(seen, first, last)
    assert trace.rate is not None
    return Row(
        name=client.name,
        achieved=float((len(trace) - 1) / np.ptp(received) / trace.rate),
        lateness=(ms(late, 50), ms(late, 99)) if client.scheduled else None,
        bias=(ms(bias, 50), ms(bias, 99)),
        cpu=cpu / (len(trace) * OUTPUT / 1000),
        busy=cpu / (last - first),
        relative=True,
        failed=int(np.isnan(ttfts).sum()),
    )


def _ended(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """Its exit code; None: it had to be ended."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
        return None


@contextmanager
def _cpu_seen(process: "subprocess.Popen[bytes]") -> Iterator[list[tuple[float, float]]]:
    """(time, CPU seconds so far) of a process and all that it started, those that have ended included."""
    seen: list[tuple[float, float]] = []
    of_each: dict[int, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            try:
                for one in (root := psutil.Process(process.pid), *root.children(recursive=True)):
                    times = one.cpu_times()
                    of_each[one.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
            seen.append((time.monotonic(), sum(of_each.values())))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
