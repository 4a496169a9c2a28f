"""vllm_v0: vLLM's first scheduler (Kwon et al., SOSP 2023; vllm/core/scheduler.py of vLLM 0.4, _schedule_default without chunks).

Prompts first: as long as one fits, a step computes whole prompts and nothing else; otherwise all running sequences decode one token.
Without blocks for a decode the newest one is preempted: recomputed later, or swapped to host memory and back, before any new prompt.
"""

from collections import deque
from typing import Literal

from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.synchronous import Synchronous
from simulators.native.sequence import Batch, Sequence


class VllmV0(Synchronous):
    """A Scheduler. A prompt longer than max_num_batched_tokens is refused by `Limits` (chunked_prefill=False), as vLLM refuses it.

    preemption: 'recompute' or 'swap'; Batch.swapped counts the tokens that a step moves (swapping.py has the time that takes).
    """

    def __init__(self, limits: Limits, *, preemption: Literal["recompute", "swap"] = "recompute") -> None:
        super().__init__(limits)
        self.preemption = preemption
        self.swapped: deque[Sequence] = deque()

    def has_work(self) -> bool:
        """See Scheduler."""
        return super().has_work() or bool(self.swapped)

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        if not self.swapped:
            self._schedule_prompts(batch)
        if not batch.sequences:
            self._schedule_decodes(batch)
        return batch

    def _schedule_prompts(self, batch: Batch) -> None:
        budget = self.limits.max_num_batched_tokens
        while len(self.waiting) and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting.peek()
            if sequence.total > budget or not self.admit(batch, sequence.total, reserve=sequence.total):
                break
            budget -= sequence.total

    def _schedule_decodes(self, batch: Batch) -> None:
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            if self.cache.extend(sequence, 1):
                self.schedule_tokens(batch, sequence, 1)
                index += 1
            else:
                self._preempt(batch, self.running[-1])
        if not batch.preempted:
            self._swap_in(batch)

    def _preempt(self, batch: Batch, victim: Sequence) -> None:
        if self.preemption == "recompute":
            self.recompute_later(batch, victim)
            return
        self.running.remove(victim)
        self.cache.release(victim)
        victim.running = False
        victim.preemptions += 1
        batch.preempted.append(victim)
        batch.swapped += victim.computed
        self.swapped.append(victim)

    def _swap_in(self, batch: Batch) -> None:
        """Bring back the swapped sequences that fit, in the order in which they were swapped out; they decode in this step."""
        while self.swapped and len(self.running) < self.limits.max_num_seqs:
            sequence = self.swapped[0]
            spare = self.watermark if self.running else 0
            if not self.cache.admit(sequence, [], sequence.computed + 1, spare=spare, whole=False):
                break
            self.running.append(self.swapped.popleft())
            sequence.running = True
            batch.swapped += sequence.computed
            self.schedule_tokens(batch, sequence, 1)
