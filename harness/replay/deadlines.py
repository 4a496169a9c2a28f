"""Absolute deadlines on Linux's own clock: each call is made at or after its time, never before.

uvloop's timers have steps of 1 ms and may fire early, so the wake-up comes from a timerfd on CLOCK_MONOTONIC (the clock of
`time.monotonic`), set once per deadline to an absolute time; the last `spin` seconds are spent watching the clock.
"""

import asyncio
import ctypes
import heapq
import math
import os
import time
from collections.abc import Callable, Sequence

_CLOCK_MONOTONIC, _ABSOLUTE, _NONBLOCK_CLOEXEC = 1, 1, os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: an interval (unused) and the time of the next expiry."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


class Schedule:
    """Calls `call(index)` for each of `times` (seconds after `epoch`, ascending), inside the running loop, once started.

    `epoch` is a time.monotonic() value. Every call happens with `time.monotonic() - epoch >= times[index]`; late ones are made at once
    and in order. `spin`: seconds before a deadline from which the clock is watched rather than slept on.
    """

    def __init__(self, times: Sequence[float], epoch: float, spin: float, call: Callable[[int], None]) -> None:
        self._times, self._epoch, self._spin, self._call = times, epoch, spin, call
        self._next = 0
        self._fd = -1

    @property
    def position(self) -> int:
        """Index of the next call; all before it have been made."""
        return self._next

    def start(self) -> None:
        """Arm the first deadline."""
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        asyncio.get_running_loop().add_reader(self._fd, self._expired)
        self.run()

    def stop(self) -> None:
        """No call is made after this. Safe to call twice."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def run(self) -> None:
        """Make every call that is due (or within `spin` of it), then arm the next deadline."""
        while self._next < len(self._times) and self._fd >= 0:
            due = self._times[self._next]
            if due - (time.monotonic() - self._epoch) > self._spin:
                self._arm(self._epoch + due - self._spin)
                return
            while time.monotonic() - self._epoch < due:
                pass
            self._next += 1
            self._call(self._next - 1)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self.run()

    def _arm(self, when: float) -> None:
        fraction, seconds = math.modf(when)
        spec = _TimerSpec(0, 0, int(seconds), int(fraction * 1e9) + 1)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")


class Agenda(Schedule):
    """As Schedule, for calls that are added while the loop runs."""

    def __init__(self, epoch: float, spin: float, call: Callable[[int], None]) -> None:
        super().__init__((), epoch, spin, call)
        self.pending: list[tuple[float, int]] = []  # (time, index), a heap: what is still to be called

    def add(self, due: float, index: int) -> None:
        """Call `call(index)` at this time, s after epoch: at once, when that is over."""
        heapq.heappush(self.pending, (due, index))
        if self._fd < 0:
            self.start()
        elif self.pending[0] == (due, index):
            self.run()

    def run(self) -> None:
        """See Schedule."""
        while self.pending and self._fd >= 0:
            due, index = self.pending[0]
            if due - (time.monotonic() - self._epoch) > self._spin:
                self._arm(self._epoch + due - self._spin)
                return
            while time.monotonic() - self._epoch < due:
                pass
            heapq.heappop(self.pending)
            self._call(index)
