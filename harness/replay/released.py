"""A replay in which ends make requests due: closed loops and sessions. What the trace's clock sends is as in any session.

A request's intended arrival is the moment at which it became due: the one at which the last byte of the answer was read that it waited for
(or at which that failed), plus its delay. So lateness has the client's own reading and sending in it, and nothing of the engine.
"""

import asyncio
import time
from collections.abc import Sequence

from harness.replay.connection import Exchange, ServerAddress
from harness.replay.deadlines import Agenda
from harness.replay.session import Session, SessionSettings
from harness.replay.shards.crew import Start
from results.project.progress import Progress
from workloads.release import Due, Release


class ReleasedSession(Session):
    """As Session; `release` tells what is sent when. After run(): `due`, all that became due, and when; also those that never did because
    what they waited for failed, with the moment at which it had.
    """

    def __init__(
        self,
        address: ServerAddress,
        release: Release,
        exchanges: Sequence[Exchange],
        settings: SessionSettings,
        *,
        progress: Progress | None,
        start: Start | None = None,
    ) -> None:
        self.due = list(release.first)
        super().__init__(address, [due.time for due in self.due], exchanges, settings, progress=progress, start=start)
        self._release = release
        self._places = {exchange: place for place, exchange in enumerate(exchanges)}
        self._begun: list[Exchange] = []
        self._expected = len(self.due)
        self._agenda: Agenda | None = None  # of what is due later

    async def run(self) -> None:
        """See Session."""
        try:
            await super().run()
        finally:
            if self._agenda is not None:
                self._agenda.stop()
        for due in list(self.due):  # some may have failed with the very end of the replay
            self._give_up_after(self._exchanges[due.place], max(due.time, self.wall_s))

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
        self._give_up_after(exchange, ended - self.epoch)
        following: Sequence[Due] = () if self._gone is not None else self._release.ended(self._places[exchange], ended - self.epoch)
        self.due += following
        self._expected += len(following)
        for due in following:
            self._last_arrival = max(self._last_arrival, due.time)
            if due.time <= time.monotonic() - self.epoch:
                self._send_place(due.place)
            else:
                self._later(due)
        if self._done == self._expected:
            self._ended.set()

    def _later(self, due: Due) -> None:
        if self._agenda is None:
            self._agenda = Agenda(self.epoch, self._settings.spin, self._send_place)
        self._agenda.add(due.time, due.place)

    def _give_up_after(self, exchange: Exchange, ended: float) -> None:
        """What waits for an exchange that failed is never sent."""
        if exchange.failure is not None or exchange.status not in (None, 200):
            for place in self._release.given_up(self._places[exchange]):
                self.due.append(Due(ended, place))
                self._exchanges[place].failure = "not sent"
                self._exchanges[place].settled = True

    def _refused(self, reason: str) -> None:
        if self._agenda is not None:
            self._agenda.stop()
        super()._refused(reason)

    def _sent_in_order(self) -> Sequence[Exchange]:
        return self._begun[self._oldest :]

    def _not_sent(self) -> Sequence[Exchange]:
        """Of those that are due: the rest never is."""
        assert self._schedule is not None
        later = [] if self._agenda is None else self._agenda.pending
        places = [due.place for due in self._release.first[self._schedule.position :]] + [place for _, place in later]
        return [self._exchanges[place] for place in places]
