"""A replay in which ends make requests due: closed loops. What the trace's clock sends is as in any session.

A request's intended arrival is the moment at which it became due: the one at which the last byte of the answer was read that it waited for
(or at which that failed). So lateness has the client's own reading and sending in it, and nothing of the engine.
"""

import asyncio
import time
from collections.abc import Sequence

from harness.replay.connection import Exchange, ServerAddress
from harness.replay.session import Session, SessionSettings
from results.project.progress import Progress
from workloads.release import Due, Release


class ReleasedSession(Session):
    """As Session; `release` tells what is sent when. After run(): `due`, all that became due, and when."""

    def __init__(
        self,
        address: ServerAddress,
        release: Release,
        exchanges: Sequence[Exchange],
        settings: SessionSettings,
        *,
        progress: Progress | None,
    ) -> None:
        self.due = list(release.first)
        super().__init__(address, [due.time for due in self.due], exchanges, settings, progress=progress)
        self._release = release
        self._places = {exchange: place for place, exchange in enumerate(exchanges)}
        self._begun: list[Exchange] = []
        self._expected = len(self.due)

    def _send(self, index: int) -> None:
        self._send_place(self.due[index].place)

    def _send_place(self, place: int) -> None:
        exchange = self._exchanges[place]
        self._begun.append(exchange)
        self._pool.send(exchange)

    def _settled(self, exchange: Exchange) -> None:
        if exchange.failure is None and exchange.reads:
            self._follow(exchange, exchange.reads[-1][0])
        else:  # later, so that a server that has gone makes no tower of calls
            asyncio.get_running_loop().call_soon(self._follow, exchange, time.monotonic())

    def _follow(self, exchange: Exchange, ended: float) -> None:
        """The exchange has ended: send what that makes due, and end the replay when nothing is left."""
        self._done += 1
        following: Sequence[Due] = () if self._gone is not None else self._release.ended(self._places[exchange], ended - self.epoch)
        self.due += following
        self._expected += len(following)
        for due in following:
            self._last_arrival = max(self._last_arrival, due.time)
            self._send_place(due.place)
        if self._done == self._expected:
            self._ended.set()

    def _sent_in_order(self) -> Sequence[Exchange]:
        return self._begun[self._oldest :]

    def _not_sent(self) -> Sequence[Exchange]:
        """Of those that are due: the rest never is."""
        assert self._schedule is not None
        return [self._exchanges[due.place] for due in self.due[self._schedule.position : len(self._release.first)]]
