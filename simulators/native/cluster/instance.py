"""Instance: one engine of a cluster. It does what `engine.run` does for a lone engine, in two moves that a common clock calls."""

from collections import deque
from dataclasses import dataclass, field

from simulators.native import engine
from simulators.native.batch import Batch
from simulators.native.kv_cache import KVCache
from simulators.native.scheduler import Scheduler
from simulators.native.sequence import Sequence
from simulators.native.step_time import StepTime
from simulators.system import SimulatorError


@dataclass(eq=False, slots=True, kw_only=True)
class Instance:
    """index: its place in the cluster. in_flight: as of `engine.run`.

    sequences: those that are here and unfinished, by index. awaited: the step whose end it waits for; None: it is idle. slowdown: factor
    on its steps (1: none).
    """

    index: int
    scheduler: Scheduler
    step_time: StepTime
    in_flight: int = 1
    sequences: dict[int, Sequence] = field(default_factory=dict)
    awaited: Batch | None = None
    slowdown: float = 1.0
    peak_blocks: int = 0
    _under_way: deque[tuple[Batch, float]] = field(default_factory=deque)
    _device_free: float = 0.0
    _fruitless: int = 0

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
        """It is no longer here: complete, or gone elsewhere."""
        del self.sequences[sequence.index]

    def begin(self, now: float) -> tuple[list[engine.Step], float | None]:
        """Schedule as many steps as may be under way. Returns them, and when the oldest under way ends (None: there is nothing to do
        until somebody arrives or KV leaves)."""
        steps = []
        while len(self._under_way) < self.in_flight and self.scheduler.has_work():
            batch = self.scheduler.schedule()
            if not (batch.sequences or batch.preempted or self._under_way):
                break  # nothing fits until KV that is held for others has gone
            start = end = max(now, self._device_free)
            if batch.sequences:
                self._device_free = end = start + self.slowdown * self.step_time.seconds(batch)
                for sequence, cached in batch.admitted:
                    if sequence.scheduled is None:
                        sequence.scheduled, sequence.cached = start, cached
            self._watch(batch, now)
            if batch.sequences or batch.preempted:
                steps.append(engine.Step(batch, now, start, self._device_free))
            self._under_way.append((batch, end))
        self.peak_blocks = max(self.peak_blocks, self.scheduler.cache.used_blocks)
        if not self._under_way:
            return steps, None
        self.awaited, end = self._under_way.popleft()
        return steps, max(now, end)

    def end(self, now: float) -> Batch:
        """The step it waited for has ended: hand its tokens back, and say which step it was."""
        assert self.awaited is not None
        batch, self.awaited = self.awaited, None
        self.scheduler.finish(batch, now)
        return batch

    def _watch(self, batch: Batch, now: float) -> None:
        self._fruitless = 0 if batch.samplers else self._fruitless + 1
        if self._fruitless > engine.LIVELOCK:
            raise SimulatorError(
                f"native: at {now:.3f} s requests of instance {self.index} go on preempting each other; give the KV cache more blocks"
            )


def paged(instance: Instance) -> KVCache:
    """Its KV memory, of a scheduler whose blocks can be handed over."""
    cache = instance.scheduler.cache
    assert isinstance(cache, KVCache)
    return cache
