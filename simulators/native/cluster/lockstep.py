"""LockStep: data-parallel engines of a mixture of experts, as vLLM runs them (0.32; vllm/v1/engine/core.py, DPEngineCoreProc).

Attention is each engine's own, and so are its requests and its KV cache; the experts are spread over the devices of all of them. So they
compute in lock-step, round by round: an engine that has nothing to compute runs a dummy batch, and a round takes as long as the longest of
its batches. A wave of rounds begins with a request. It ends when the engines find that none of them has work; they look only in the first
round and in every `dp_sync_interval`-th, so that dummy rounds follow the last token. All ranks are one Scheduler here, whose batches have
parts.

With asynchronous scheduling a rank decides the next round while one is computed, but waits for the end of a dummy batch: an idle rank takes
what arrives during a round into the very next one. And a wave ends with a round in which all had dummy batches, as the tokens of the
last round are not known when they look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulators.native import sequence
from simulators.native.cluster.balancer import LoadBalancer, ReportedLoad
from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.scheduling.scheduler import Cache, Limits
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Batch

DP_SYNC_INTERVAL = 32  # rounds between two looks whether anybody has work (vLLM's --dp-sync-interval)


@dataclass(slots=True)
class Round(Batch):
    """One round: the batches of all ranks. Its own lists are theirs, one after the other."""

    parts: list[Batch] = field(default_factory=list)


class Longest(Wrapped):
    """A StepTime of rounds: the longest of their parts', and of a dummy batch's (a sequence that decodes one token) where a rank has none.

    inner: of one rank's batch.
    """

    def __init__(self, inner: StepTime) -> None:
        super().__init__(inner)
        self.rounds = self.dummies = 0
        dummy = Batch()
        dummy.count_decode(1)
        dummy.sequences.append(sequence.Sequence(index=-1, arrival=0.0, prompt=1, output=1))
        self._dummy = dummy

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        assert isinstance(batch, Round)
        self.rounds += 1
        idle = sum(not part.sequences for part in batch.parts)
        self.dummies += idle
        return max(self.inner.seconds(part) for part in [part for part in batch.parts if part.sequences] + [self._dummy] * (idle > 0))

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {**self.inner.describe(), "rounds": self.rounds, "dummy_batches": self.dummies}


class Ranks:
    """The KV memory of all ranks, as the loop looks at it: that of the fullest."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        self._caches = caches

    @property
    def blocks(self) -> int:
        """See Cache."""
        return self._caches[0].blocks

    @property
    def used_blocks(self) -> int:
        """See Cache."""
        return max(cache.used_blocks for cache in self._caches)

    def cached_tokens(self, asked: sequence.Sequence) -> int:
        """See Cache."""
        return max(cache.cached_tokens(asked) for cache in self._caches)


class LockStep:
    """A Scheduler of `data_parallel_size` ranks, each a VllmV1 with these limits; requests are spread by vLLM's load balancer."""

    def __init__(self, limits: Limits, *, data_parallel_size: int, dp_sync_interval: int = DP_SYNC_INTERVAL) -> None:
        if data_parallel_size < 2 or dp_sync_interval < 1:
            raise ValueError(f"data_parallel_size must be >= 2 and dp_sync_interval >= 1, got {data_parallel_size} and {dp_sync_interval}")
        self.limits, self.interval = limits, dp_sync_interval
        self.ranks = [VllmV1(limits) for _ in range(data_parallel_size)]
        self.cache = Ranks([rank.cache for rank in self.ranks])
        self.waves = 0
        self.rank_of: dict[int, int] = {}  # by the sequence's index
        self._balancer = LoadBalancer(data_parallel_size)
        self._unfinished = [0] * data_parallel_size
        self._running = False  # whether a wave is
        self._newest: Round | None = None  # the round that was decided last
        self._decided: dict[int, Batch] | None = None  # of the next round, the batches of ranks that did not wait for the newest to end
        self._rounds = 0  # of this wave, ended

    def add(self, arrived: sequence.Sequence) -> None:
        """See Scheduler."""
        now = max(arrived.arrival, arrived.reached)
        if self._balancer.due(now):
            self._balancer.report(now, [self._load(rank) for rank in self.ranks])
        rank = self._balancer.choose(self._unfinished)
        self.rank_of[arrived.index] = rank
        self._unfinished[rank] += 1
        self.ranks[rank].add(arrived)
        self.waves += not self._running
        self._running = True

    def has_work(self) -> bool:
        """See Scheduler: while a wave runs there are rounds."""
        return self._running

    def schedule(self) -> Batch:
        """See Scheduler. While some ranks wait for the end of their dummy batches, a batch of nobody."""
        if self._decided is None and self._some_wait():
            assert self._newest is not None
            busy = [place for place, part in enumerate(self._newest.parts) if part.sequences]
            self._decided = {place: self.ranks[place].schedule() for place in busy}
            return Batch()
        decided, self._decided = self._decided or {}, None
        round_ = Round()
        round_.parts = [decided[place] if place in decided else rank.schedule() for place, rank in enumerate(self.ranks)]
        for part in round_.parts:
            for name in ("sequences", "tokens", "samplers", "admitted", "preempted"):
                getattr(round_, name).extend(getattr(part, name))
        round_.dummy = not round_.sequences
        self._newest = round_
        return round_

    def finish(self, batch: Batch, now: float) -> None:
        """See Scheduler."""
        batch.done = True
        if not isinstance(batch, Round):
            return
        for place, (rank, part) in enumerate(zip(self.ranks, batch.parts, strict=True)):
            before = [s.total < s.end for s in part.samplers]
            rank.finish(part, now)
            self._unfinished[place] -= sum(b and s.total == s.end for b, s in zip(before, part.samplers, strict=True))
        self._rounds += 1
        looked = self._rounds == 1 or self._rounds % self.interval == 0
        known = self.limits.in_flight == 1 or batch.dummy  # whether all tokens are, when they look
        if looked and known and not any(rank.running or len(rank.waiting) for rank in self.ranks):
            self._running, self._rounds = False, 0

    def _some_wait(self) -> bool:
        """Whether the newest round is under way, and a dummy batch on some rank."""
        return self._newest is not None and not self._newest.done and not all(part.sequences for part in self._newest.parts)

    def withdraw(self, leaving: sequence.Sequence) -> bool:
        """See Scheduler."""
        return self.ranks[self.rank_of[leaving.index]].withdraw(leaving)

    def _load(self, rank: VllmV1) -> ReportedLoad:
        return ReportedLoad(len(rank.waiting), len(rank.running), rank.cache.used_blocks / rank.cache.blocks)
