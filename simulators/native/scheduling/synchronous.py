"""Synchronous: what schedulers share that decide a step when the one before it has ended, first come, first served.

The engines of the papers (Orca, vLLM's first version, Sarathi-Serve) work like that; none of them shares prefixes here.
"""

from simulators.native.kv.kv_cache import KVCache
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.waiting import FirstComeFirstServed
from simulators.native.sequence import Batch, Sequence


class Synchronous:
    """Most of a Scheduler; a policy adds `schedule`. `running` holds the admitted sequences in the order of admission.

    Raises ValueError for limits that it cannot keep.
    """

    def __init__(self, limits: Limits) -> None:
        if limits.in_flight != 1:
            raise ValueError(f"this policy decides a step when the one before has ended: in_flight must be 1, got {limits.in_flight}")
        if limits.speculation.num_speculative_tokens or limits.kv_groups:
            raise ValueError("this policy decodes single tokens, with one KV cache: num_speculative_tokens must be 0, and kv_groups empty")
        self.limits = limits
        self.cache = KVCache(
            num_blocks=limits.kv_blocks, block_size=limits.block_size, prefix_caching=False, kept_tokens=limits.kept_tokens
        )
        self.waiting = FirstComeFirstServed()
        self.running: list[Sequence] = []
        self.watermark = int(limits.watermark * limits.kv_blocks)  # blocks

    def add(self, sequence: Sequence) -> None:
        """See Scheduler."""
        self.waiting.push(sequence)

    def has_work(self) -> bool:
        """See Scheduler."""
        return bool(self.running) or len(self.waiting) > 0

    def finish(self, batch: Batch, now: float) -> None:
        """See Scheduler."""
        batch.done = True
        for sequence in batch.samplers:
            sequence.total += 1
            sequence.token_times.append(now)
            if sequence.total == sequence.end:
                self.running.remove(sequence)
                self.cache.release(sequence)
                sequence.running = False

    def withdraw(self, sequence: Sequence) -> bool:
        """See Scheduler."""
        if not sequence.running:
            return False
        self.running.remove(sequence)
        self.cache.release(sequence)
        sequence.running = False
        return True

    def schedule_tokens(self, batch: Batch, sequence: Sequence, tokens: int) -> None:
        """Put the sequence's next `tokens` tokens into the step; it generates a token when no known one is left to compute."""
        context = sequence.computed
        sequence.computed += tokens
        sequence.last = batch
        batch.sequences.append(sequence)
        batch.tokens.append(tokens)
        if sequence.computed >= sequence.total:
            batch.samplers.append(sequence)
        batch.count(tokens, context)

    def admit(self, batch: Batch, tokens: int, *, reserve: int) -> bool:
        """Admit the first waiting sequence, `tokens` of it in this step, with blocks for `reserve`; False when there are too few."""
        sequence = self.waiting.peek()
        spare = self.watermark if self.running else 0
        if not self.cache.admit(sequence, [], reserve, spare=spare, whole=False):
            return False
        self.running.append(self.waiting.pop())
        sequence.running = True
        batch.admitted.append((sequence, 0))
        self.schedule_tokens(batch, sequence, tokens)
        return True

    def recompute_later(self, batch: Batch, victim: Sequence) -> None:
        """Preempt by recomputation: its blocks are taken, and it waits again, first in the queue."""
        self.running.remove(victim)
        self.cache.release(victim)
        victim.running = False
        victim.computed = 0
        victim.preemptions += 1
        batch.preempted.append(victim)
        self.waiting.put_back(victim)
