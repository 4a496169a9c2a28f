"""One replay under way, inside its event loop: when what is sent, which limits end it, and what it leaves behind."""

import asyncio
import contextlib
import resource
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.replay.connection import ConnectionPool, Exchange, ServerAddress
from harness.replay.deadlines import Schedule
from harness.replay.shards.crew import Start
from results.project.progress import Progress

_LEAD = 0.02  # s between the last preparation and second 0
_TICK = 0.25  # s between looks at the limits; every second look reports progress


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The Client's settings of these names."""

    request_timeout: float
    drain_timeout: float
    connect_timeout: float
    connections: int
    keep_alive: float
    spin: float


class Session:
    """One replay under way: `exchanges[i]` is sent `arrivals[i]` seconds (ascending) after `epoch`, a time.monotonic() value.

    start: as Client.replay's.

    After run(): started_at, epoch, wall_s, cpu_s as in a Replay; the exchanges hold what came back.
    """

    def __init__(
        self,
        address: ServerAddress,
        arrivals: Sequence[float],
        exchanges: Sequence[Exchange],
        settings: SessionSettings,
        *,
        progress: Progress | None,
        start: Start | None = None,
    ) -> None:
        self._start = start or (lambda: time.monotonic() + _LEAD)
        self._arrivals, self._exchanges, self._progress = arrivals, exchanges, progress
        self._settings = settings
        self._pool = ConnectionPool(
            address,
            reserve=min(settings.connections, len(exchanges)),
            keep_alive=settings.keep_alive,
            connect_timeout=settings.connect_timeout,
            settled=self._settled,
            refused=self._refused,
        )
        self._schedule: Schedule | None = None
        self._last_arrival = arrivals[-1]
        self._oldest = 0  # place, in the order of sending, of the first exchange that may not be settled
        self._done = 0
        self._ended = asyncio.Event()
        self._gone: str | None = None
        self._broken: BaseException | None = None
        self.epoch = self.wall_s = self.cpu_s = 0.0
        self.started_at = ""

    async def run(self) -> None:
        """Connect, replay, drain. Whatever ends it, no socket stays open."""
        _allow_open_files(len(self._exchanges) + 256)
        asyncio.get_running_loop().set_exception_handler(self._on_exception)
        try:
            ahead = self._settings.connections
            await self._pool.fill(min(len(self._exchanges), max(ahead, self._burst())) if ahead else 0)
            self.epoch = self._start()
            self.started_at = datetime.now(UTC).isoformat()
            cpu = time.process_time()
            self._schedule = Schedule(self._arrivals, self.epoch, self._settings.spin, self._send)
            if self._gone is None:
                self._schedule.start()
                await self._watch()
            else:
                self._refused(self._gone)
            self.wall_s = max(0.0, time.monotonic() - self.epoch)
            self.cpu_s = time.process_time() - cpu
        finally:
            if self._schedule is not None:
                self._schedule.stop()
            self._pool.close()
        if self._progress:
            self._progress(self._done, len(self._exchanges))

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A defect in a callback of ours ends the replay; it must not pass for a slow server."""
        self._broken = context.get("exception") or RuntimeError(context["message"])
        self._ended.set()

    def _burst(self) -> int:
        """The most arrivals within any one second: about as many connections are opened before the start."""
        return max(bisect_left(self._arrivals, arrival + 1.0) - i for i, arrival in enumerate(self._arrivals))

    def _send(self, index: int) -> None:
        self._pool.send(self._exchanges[index])

    def _settled(self, _: Exchange) -> None:
        self._done += 1
        if self._done == len(self._exchanges):
            self._ended.set()

    def _refused(self, reason: str) -> None:
        """Nobody listens any more: the exchanges that were not sent are cancelled."""
        self._gone = reason
        if self._schedule is not None:
            self._schedule.stop()
            for exchange in self._not_sent():
                self._pool.cancel(exchange, f"not sent: {reason}")

    async def _watch(self) -> None:
        """Until the end: enforce the limits, keep connections ready, report progress."""
        drain, turn = self._settings.drain_timeout, 0
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _TICK)
            if self._broken is not None:
                raise self._broken
            now = time.monotonic()
            if now - self.epoch > self._last_arrival + drain:
                assert self._schedule is not None
                self._schedule.run()  # this process may have stood still: what is due is sent before the limit ends the replay
                self._cancel_all(f"not finished {drain:g} s after the last arrival (client.drain_timeout)")
            self._time_out(now - self._settings.request_timeout)
            self._pool.top_up()
            turn += 1
            if self._progress and turn % 2 == 0:
                self._progress(self._done, len(self._exchanges))

    def _time_out(self, limit: float) -> None:
        under_way = self._sent_in_order()
        settled = next((place for place, exchange in enumerate(under_way) if not exchange.settled), len(under_way))
        self._oldest += settled
        for exchange in under_way[settled:]:
            if not exchange.settled and exchange.sent is not None and exchange.sent < limit:
                self._pool.cancel(exchange, f"timed out after {self._settings.request_timeout:g} s (client.request_timeout)")

    def _cancel_all(self, reason: str) -> None:
        for exchange in (*self._sent_in_order(), *self._not_sent()):
            self._pool.cancel(exchange, reason)

    def _sent_in_order(self) -> Sequence[Exchange]:
        """Those that were sent, in order, but for some that are settled."""
        assert self._schedule is not None
        return self._exchanges[self._oldest : self._schedule.position]

    def _not_sent(self) -> Sequence[Exchange]:
        """Those that are still to be sent."""
        assert self._schedule is not None
        return self._exchanges[self._schedule.position :]


def _allow_open_files(count: int) -> None:
    """Raise this process's soft limit on open files as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
