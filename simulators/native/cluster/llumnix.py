"""Llumnix: requests move between instances while they run, to even out loads and to make room (Sun et al., OSDI 2024).

Freeness of an instance (section 4.4, equation 1): F = (M - sum of virtual usages) / B, in tokens per running request. A running
request's virtual usage is what it holds; a queued one's is what it asks for, so that an instance whose first request does not fit (for
fragmentation over instances) is less than free, and its running requests are sent away until it does.
"""

from collections.abc import Iterable, Sequence

from simulators.native import sequence
from simulators.native.cluster.instance import Instance, paged
from simulators.native.cluster.placement import Move, Place


class Llumnix:
    """A new request goes to the freest instance; every `interval` seconds the least free below `low` sends to the freest above `high`.

    low, high: freeness, i.e. decode steps that the free memory lasts for.
    The running request that holds the least moves: one for each pair of instances at a time.
    """

    def __init__(self, interval: float = 0.2, low: float = 50.0, high: float = 150.0) -> None:
        if interval <= 0 or low > high:
            raise ValueError(f"llumnix: interval must be > 0 and low <= high, got interval={interval}, low={low}, high={high}")
        self.interval: float | None = interval
        self.low, self.high = low, high

    def place(self, arrived: sequence.Sequence, instances: Sequence[Instance]) -> Place:
        """See Placement."""
        return Place(max(instances, key=lambda instance: (freeness(instance), -instance.index)))

    def target(self, prefilled: sequence.Sequence, instances: Sequence[Instance]) -> Instance:
        """See Placement; never asked."""
        raise NotImplementedError("llumnix moves requests by `rebalance` only")

    def rebalance(self, instances: Sequence[Instance]) -> Iterable[Move]:
        """See Placement: the least free with the freest, the second least with the second, and so on."""
        ranked = sorted(instances, key=lambda instance: (freeness(instance), instance.index))
        for source, target in zip(ranked, reversed(ranked), strict=True):
            if freeness(source) >= self.low or freeness(target) <= self.high or source is target:
                return
            running = [s for s in source.sequences.values() if s.running and s.token_times]
            if running:
                yield Move(min(running, key=lambda s: (len(s.blocks), s.index)), source, target)


def freeness(instance: Instance) -> float:
    """Free tokens of KV per running request, less what queued requests ask for; see above."""
    cache = paged(instance)
    running = [s for s in instance.sequences.values() if s.running]
    queued = sum(cache.blocks_for(s.total) for s in instance.sequences.values() if not s.running)
    free = (cache.pool.size - cache.used_blocks - queued) * cache.block_size
    return free / max(1, len(running))
