"""A running program with all processes that it has started: what they use, and their end.

Some simulators run under a supervisor of their own, in a process that is in no group of ours: the program that was started then uses next
to nothing, and its group's end is not that of the one which computes.
"""

from contextlib import suppress
from pathlib import Path

import psutil


class Family:
    """pid: of the program, a child of this process that is not reaped yet. Its descendants are those seen at some `look`."""

    def __init__(self, pid: int) -> None:
        self._program = psutil.Process(pid)
        self._others: set[psutil.Process] = set()
        self.peak_memory = 0  # bytes, the largest resident set of any one of them so far

    def look(self) -> float:
        """User and system time of them all, s, those included that have ended and were waited for."""
        with suppress(psutil.NoSuchProcess):
            self._others.update(self._program.children(recursive=True))
        spent = 0.0
        for process in (self._program, *self._others):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
                self.peak_memory = max(self.peak_memory, _peak(process.pid))
        return spent

    def kill(self) -> None:
        """End the descendants that still run. (A process that has taken one's number since is left alone.)"""
        for process in self._others:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _peak(pid: int) -> int:
    """VmHWM in bytes; 0 once the process has given up its memory."""
    with suppress(FileNotFoundError, ProcessLookupError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
    return 0
