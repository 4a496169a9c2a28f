"""How long an engine's own core was taken by others: what makes the same step take 10 ms one second and 14 ms the next.

Linux counts, for each thread, the time that it ran and the time that it was ready to run and had to wait for a CPU (/proc/PID/schedstat,
nanoseconds). The thread that computes (a process's first) waits for the process's other threads, too: they pass on requests and tokens on
the same core. What these ran is therefore taken off; what is left was taken by somebody else.
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
    """Seconds so far, of one process. waited: its first thread was ready and had no CPU. others: its other threads ran."""

    waited: float
    others: float


def account(pid: int) -> Account | None:
    """The process's account; None when there is no such process, or the kernel does not keep one."""
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

    The largest of theirs; None when the kernel tells of none of them.
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
