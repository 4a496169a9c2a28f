"""sarathi: Sarathi-Serve's stall-free batching (Agrawal et al., OSDI 2024, algorithm 3; sarathi/core/scheduler/sarathi_scheduler.py).

Decodes go into every step first; what is left of the token budget goes to prompts in chunks: to those begun before, then to new ones.
A new prompt is admitted when all of it fits the KV cache. max_num_batched_tokens is the paper's token budget.
"""

from simulators.native.scheduling.synchronous import Synchronous
from simulators.native.sequence import Batch, Sequence


class Sarathi(Synchronous):
    """A Scheduler; without blocks for a decode the newest sequence is preempted and recomputed."""

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        prefills = self._schedule_decodes(batch)
        budget = self.limits.max_num_batched_tokens - len(batch.sequences)
        for sequence in prefills:
            if budget > 0:
                tokens = min(sequence.total - sequence.computed, budget)
                self.schedule_tokens(batch, sequence, tokens)
                budget -= tokens
        if not batch.preempted:
            self._schedule_new(batch, budget)
        return batch

    def _schedule_decodes(self, batch: Batch) -> list[Sequence]:
        """Schedule all sequences that decode; return those whose prompts are not done yet."""
        prefills, index = [], 0
        while index < len(self.running):
            sequence = self.running[index]
            if sequence.total - sequence.computed > 1:
                prefills.append(sequence)
            elif self.cache.extend(sequence, 1):
                if len(batch.sequences) < self.limits.max_num_batched_tokens:
                    self.schedule_tokens(batch, sequence, 1)
            else:
                victim = self.running[-1]
                if victim in prefills:
                    prefills.remove(victim)
                self.recompute_later(batch, victim)
                continue  # try the same sequence again, if it is still there
            index += 1
        return prefills

    def _schedule_new(self, batch: Batch, budget: int) -> None:
        """Admit from the queue, in order, until the budget, the slots or the blocks are gone."""
        while len(self.waiting) and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting.peek()
            tokens = min(sequence.total, budget)
            if not self.admit(batch, tokens, reserve=sequence.total):
                break
            budget -= tokens
