"""Instance: one engine of a cluster, and the requests that it serves."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulators.native.engine import EngineModel, Step
from simulators.native.kv.kv_cache import KVCache
from simulators.native.scheduling.scheduler import Scheduler
from simulators.native.sequence import Sequence


@dataclass(eq=False, slots=True, kw_only=True)
class Instance:
    """index: its place in the cluster. sequences: the unfinished ones that are here, by index. peak_blocks: most KV blocks held at once."""

    index: int
    engine: EngineModel
    sequences: dict[int, Sequence] = field(default_factory=dict)
    peak_blocks: int = 0

    @property
    def scheduler(self) -> Scheduler:
        """The engine's scheduler."""
        return self.engine.scheduler

    @property
    def outstanding_tokens(self) -> int:
        """Tokens that its sequences still have to compute, prompt and output."""
        return sum(max(0, s.end - 1 - max(s.computed, s.received)) for s in self.sequences.values())

    @property
    def outstanding_prompt_tokens(self) -> int:
        """Prompt tokens that its sequences still have to compute."""
        return sum(max(0, s.prompt - max(s.computed, s.received)) for s in self.sequences.values())

    def add(self, sequence: Sequence) -> None:
        """A sequence has arrived here."""
        self.sequences[sequence.index] = sequence
        self.scheduler.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """The sequence is no longer here: it is complete, or has moved."""
        del self.sequences[sequence.index]

    def begin(self, now: float) -> Iterator[Step]:
        """See Engine."""
        yield from self.engine.begin(now)
        self.peak_blocks = max(self.peak_blocks, self.scheduler.cache.used_blocks)


def paged(instance: Instance) -> KVCache:
    """The instance's KV memory, where its scheduler has blocks that can be handed over."""
    cache = instance.scheduler.cache
    assert isinstance(cache, KVCache)
    return cache
