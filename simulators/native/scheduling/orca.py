"""orca: iteration-level scheduling without paging (Yu et al., Orca, OSDI 2022, algorithm 1), and the request-level batching it replaced.

Both reserve KV memory for a whole request when it is admitted, so nothing is ever preempted. What is reserved for an output of unknown
length is the paper's max_tokens; as in vLLM's paper (Kwon et al., SOSP 2023, section 6.1) it may be the true length ('oracle'), the next
power of two, or what the model allows.
"""

from typing import Literal

from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.synchronous import Synchronous
from simulators.native.sequence import Batch, Sequence

Reserve = Literal["oracle", "power_of_two", "max"]


class Orca(Synchronous):
    """A step is one iteration of all running requests, prompts whole and beside decodes; whoever arrived first is admitted first.

    max_num_seqs is the paper's max_bs, and the KV cache its n_slots. There is no token budget (max_num_batched_tokens is not kept).
    """

    def __init__(self, limits: Limits, *, reserve: Reserve = "oracle") -> None:
        super().__init__(limits)
        self.reserve = reserve

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        for sequence in self.running:
            self.schedule_tokens(batch, sequence, sequence.total - sequence.computed)
        self.fill(batch)
        return batch

    def fill(self, batch: Batch) -> None:
        """Admit from the queue as long as there are slots and memory."""
        while len(self.waiting) and len(self.running) < self.limits.max_num_seqs:
            first = self.waiting.peek()
            if not self.admit(batch, first.total, reserve=self._reserved(first)):
                break

    def _reserved(self, sequence: Sequence) -> int:
        """Tokens of KV memory set aside for a request; never more than there are."""
        lengths = {"oracle": sequence.output, "power_of_two": 1 << (sequence.output - 1).bit_length(), "max": self.limits.max_model_len}
        return min(sequence.prompt + lengths[self.reserve], self.limits.max_model_len, self.limits.kv_blocks * self.limits.block_size)


class RequestLevel(Orca):
    """Request-level batching (FasterTransformer behind Triton, the paper's baseline): a batch is filled, and runs until its longest request
    ends.

    A request that is complete earlier keeps its slot and goes on being computed, and its answer ends when the batch does.
    """

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        for sequence in self.running:
            if sequence.total < sequence.end:
                self.schedule_tokens(batch, sequence, sequence.total - sequence.computed)
            else:
                batch.count(1, sequence.total - 1)
        if not self.running:
            self.fill(batch)
        return batch

    def finish(self, batch: Batch, now: float) -> None:
        """See Scheduler."""
        batch.done = True
        for sequence in batch.samplers:
            sequence.total += 1
            sequence.token_times.append(now)
        if all(s.total == s.end for s in self.running):
            for sequence in self.running:
                sequence.token_times[-1] = now
                self.cache.release(sequence)
                sequence.running = False
            self.running = []
