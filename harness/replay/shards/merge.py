"""One run of what several processes saw, each of its own requests, on one clock."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.replay.shards.crew import cpus_for
from harness.replay.shards.share import Share
from results.record import RequestRecord
from workloads.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What one process had to do with a replay."""

    request_ids: frozenset[int]  # that it sent
    cpu: int  # that it was pinned to
    cpus: float  # how much of that was its own: less than 1 where processes shared it
    wall_s: float  # s from second 0 to its last answer
    cpu_s: float  # CPU seconds in that time


class Part(Protocol):
    """What one process saw: a Replay (harness/replay/client.py)."""

    @property
    def trace(self) -> Trace:
        """What was asked, in order of arrival."""
        ...

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """One per request."""
        ...

    @property
    def ended(self) -> tuple[float | None, ...]:
        """When each answer ended."""
        ...

    @property
    def wall_s(self) -> float:
        """Until its last answer."""
        ...

    @property
    def cpu_s(self) -> float:
        """Of its process."""
        ...


def merge(whole: Trace, parts: Sequence[Part]) -> tuple[Trace, tuple[RequestRecord, ...], tuple[float | None, ...]]:
    """The trace, the records and the ends of all parts, in order of arrival; those of one moment are as in the whole trace."""
    place = {request.request_id: number for number, request in enumerate(whole)}
    rows = [row for part in parts for row in zip(part.trace, part.records, part.ended, strict=True)]
    rows.sort(key=lambda row: (row[0].arrival, place[row[0].request_id]))
    requests, records, ended = zip(*rows, strict=True)
    return dataclasses.replace(whole, requests=requests), records, ended


def shards_of(shares: Sequence[Share], parts: Sequence[Part]) -> tuple[Shard, ...]:
    """What each process had to do with it."""
    cpus = cpus_for(len(parts))
    return tuple(
        Shard(
            request_ids=frozenset(request.request_id for request in share.trace),
            cpu=cpu,
            cpus=1 / cpus.count(cpu),
            wall_s=part.wall_s,
            cpu_s=part.cpu_s,
        )
        for share, part, cpu in zip(shares, parts, cpus, strict=True)
    )
