"""One coroutine in an event loop of its own, which an interrupt ends as a whole.

`asyncio.Runner` answers Ctrl-C with a cancellation only while the coroutine runs. One that comes while the loop is made or taken down is
raised in the midst of that: the loop stays open, its tasks never start, and Python prints a line about each. The shorter a replay, the
more of its time this is.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")
_ENDING = (signal.SIGINT, signal.SIGTERM)


def run_in_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `main()` returns. On SIGINT or SIGTERM it is cancelled; once the loop is closed, the process's own handler has its turn."""
    with _interrupts_wait() as interrupts, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(interrupts.cancel(main))


class _Interrupts:
    """The signals that came since; the first cancels the task."""

    def __init__(self) -> None:
        self.came: list[signal.Signals] = []
        self._task: asyncio.Task[Any] | None = None

    async def cancel(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await `main()` in the task that a signal cancels, also one that came before this."""
        self._task = asyncio.current_task()
        if self.came:
            self._cancel()
        return await main()

    def note(self, signum: int, _: FrameType | None) -> None:
        """The signal handler."""
        self.came.append(signal.Signals(signum))
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._task.get_loop().call_soon_threadsafe(lambda: None)  # wake it up


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[_Interrupts]:
    """Until the end, signals that Python's code handles are only noted. Threads but the main one get none."""
    interrupts = _Interrupts()
    handlers = {} if threading.current_thread() is not threading.main_thread() else {s: signal.getsignal(s) for s in _ENDING}
    handled = {s: handler for s, handler in handlers.items() if callable(handler)}
    for signum in handled:
        signal.signal(signum, interrupts.note)
    try:
        yield interrupts
    finally:
        for signum, handler in handled.items():
            signal.signal(signum, handler)
        for signum in interrupts.came:
            handled[signum](signum, None)
