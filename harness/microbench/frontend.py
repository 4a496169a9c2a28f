"""What an engine's API server takes of the CPU: for a request, a token of its prompt, a step of the engine, a streamed token.

Bursts of equal requests are sent, and the CPU seconds of the server's processes that do not compute are read before and after
(/proc/PID/task/*/schedstat of Linux, nanoseconds). Non-negative least squares over the bursts tell the four parts apart. All threads of a
process count alike: also the one in which vLLM tokenises.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

PARTS = ("request", "prompt_token", "step", "token")
SETTLE = 0.3  # s after the last answer in which a server tidies up

Floats = NDArray[np.float64]
Answer = tuple[int, int]  # tokens of the prompt and of the output, as the server counted them


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Equal requests, so many `together` at a time, one lot after the other."""

    lots: int
    together: int
    input_tokens: int
    output_tokens: int


BURSTS = (
    *(Burst(lots=6, together=1, input_tokens=n, output_tokens=1) for n in (16, 512, 1024, 2048, 3072)),
    *(Burst(lots=6, together=1, input_tokens=n, output_tokens=32) for n in (16, 1024, 2048)),
    Burst(lots=2, together=1, input_tokens=16, output_tokens=128),
    *(Burst(lots=2, together=n, input_tokens=16, output_tokens=64) for n in (4, 8, 16, 32)),
    Burst(lots=1, together=32, input_tokens=16, output_tokens=128),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstCost:
    """What a burst took."""

    requests: int  # answered
    prompt_tokens: int  # as the server counted them
    steps: int  # of the engine that brought tokens: as many as the longest answer of each lot has tokens
    tokens: int  # streamed
    seconds: Mapping[str, float]  # of CPU, by process


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCost:
    """Seconds of CPU that a process takes, each >= 0."""

    request: float
    prompt_token: float
    step: float
    token: float
    residual: float  # median over the bursts of |fitted - seen| / seen

    @classmethod
    def fit(cls, bursts: Sequence[BurstCost], process: str) -> "ServerCost":
        """Least squares of the relative errors. Raises ValueError when the process did nothing in some burst."""
        from scipy.optimize import nnls  # here: scipy takes long to import

        seen = np.array([burst.seconds[process] for burst in bursts])
        if not (seen > 0).all():
            raise ValueError(f"{process}: it took no CPU in {int((seen <= 0).sum())} of {len(seen)} bursts; send more requests in each")
        rows = np.array([(b.requests, b.prompt_tokens, b.steps, b.tokens) for b in bursts]) / seen[:, None]
        parts: Floats = nnls(rows, np.ones(len(seen)))[0]
        return cls(**dict(zip(PARTS, parts.tolist(), strict=True)), residual=float(np.median(np.abs(rows @ parts - 1))))


class CpuWatch:
    """The CPU time of processes since it was made, less what they take when nobody asks anything of them.

    names: process id to the name that it goes by; several may share one. idle: CPU seconds per second, by name.
    """

    def __init__(self, names: Mapping[int, str], idle: Mapping[str, float]) -> None:
        self._names, self._idle = names, idle
        self._begin = time.monotonic()
        self._before = {pid: cpu_seconds(pid) for pid in names}

    def seconds(self) -> dict[str, float]:
        """CPU seconds by name."""
        wall = time.monotonic() - self._begin
        found = {name: -self._idle.get(name, 0.0) * wall for name in self._names.values()}
        for pid, name in self._names.items():
            found[name] += cpu_seconds(pid) - self._before[pid]
        return found


def cpu_seconds(pid: int) -> float:
    """CPU seconds that the living threads of a process have taken; 0 where there is none."""
    ran = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ran += int(thread.read_text().split()[0])
    return ran / 1e9


def idle_shares(names: Mapping[int, str], seconds: float) -> dict[str, float]:
    """CPU seconds per second that processes take while nobody asks anything of them, watched for so long."""
    watch = CpuWatch(names, {})
    time.sleep(seconds)
    return {name: found / seconds for name, found in watch.seconds().items()}


def front_processes(core_pids: Sequence[int]) -> dict[int, str]:
    """This process's descendants that do not compute, by the first word of their titles."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and process.pid not in core_pids:
                found[process.pid] = Path(words[0]).name
    return found


def observe(
    burst: Burst, send: Callable[[Burst], Sequence[Answer]], names: Mapping[int, str], idle: Mapping[str, float], settle: float = SETTLE
) -> BurstCost:
    """Send a burst and say what it took. send: returns when all answers have come."""
    watch = CpuWatch(names, idle)
    answers = send(burst)
    time.sleep(settle)
    return BurstCost(
        requests=len(answers),
        prompt_tokens=sum(prompt for prompt, _ in answers),
        steps=burst.lots * max(output for _, output in answers),
        tokens=sum(output for _, output in answers),
        seconds=watch.seconds(),
    )
