"""How long other programs had the core that an engine needed: why the same step takes 10 ms one second and 14 ms the next.

Linux counts, for each thread, the time that it ran and the time that it was ready to run and had to wait for a CPU (/proc/PID/schedstat,
nanoseconds). The thread that computes (a process's first) also waits for the process's own other threads, which pass on requests and
tokens on the same core. The time that these ran is subtracted from its wait; the rest went to other programs.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Of one process, in seconds so far."""

    waited: float  # its first thread was ready and had no CPU
    others: float  # its other threads ran


def account(pid: int) -> Account | None:
    """The process's account; None where there is no such process, or the kernel keeps no schedstat."""
    others = 0.0
    waited = None
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            ran, ready, _ = (int(word) for word in (thread / "schedstat").read_text().split())
            if thread.name == str(pid):
                waited = ready / 1e9
            else:
                others += ran / 1e9
    return None if waited is None else Account(waited=waited, others=others)


class Contention:
    """A context: after it, `share` is the part of its time for which others had the CPU that these processes needed.

    Of several processes it is the largest share; None where the kernel keeps an account of none of them.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.share: float | None = None

    def __enter__(self) -> Self:
        self._begin = monotonic()
        self._before = {pid: account(pid) for pid in self._pids}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        wall = monotonic() - self._begin
        shares = []
        for pid, before in self._before.items():
            after = account(pid)
            if before is not None and after is not None and wall > 0:
                shares.append(max(0.0, after.waited - before.waited - max(0.0, after.others - before.others)) / wall)
        self.share = max(shares, default=None)
