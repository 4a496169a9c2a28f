"""Job and Memory: a request inside SGLang's scheduler, and how requests take, keep and give back KV memory."""

from dataclasses import dataclass

from simulators.native.kv.radix_cache import Node, RadixCache
from simulators.native.sequence import Sequence


@dataclass(slots=True, eq=False)
class Job:
    """A request as the scheduler holds it. Counts are tokens."""

    sequence: Sequence  # the request inside the engine
    start: int = 0  # its last prefill step computes the tokens from here on; those before are there
    end: int = 0  # up to here
    allocated: int = 0  # places that it has, where decodes verify drafts
    node: Node | None = None  # of the tree: locks the pages that are `kept`
    kept: int = 0  # how many of its first pages are in the tree
    held: bool = False  # whether it has KV memory
    retracted: bool = False  # whether it lost its memory, and has not been admitted again

    @property
    def generated(self) -> int:
        """Generated tokens that are known."""
        return self.sequence.total - self.sequence.prompt

    @property
    def finished(self) -> bool:
        """Whether it is complete."""
        return self.sequence.total >= self.sequence.end


class Memory:
    """The KV memory of all jobs: pages of the radix cache, and one row per job (max_num_seqs of them).

    reserved: places behind its committed tokens that a job has when it decodes (Speculation.reserved_tokens); 0: one for its next token.
    """

    def __init__(self, cache: RadixCache, rows: int, *, reserved: int = 0) -> None:
        self.cache, self.rows, self.reserved = cache, rows, reserved

    def match(self, job: Job) -> Node:
        """Find the longest cached beginning of the job's tokens, and set its `start`.

        It is never all of them: the last must be computed.
        """
        node = self.cache.match(job.sequence, job.sequence.total - 1)
        job.start = node.end * self.cache.page_size
        return node

    def pages(self, tokens: int) -> int:
        """Pages that `tokens` tokens fill or begin."""
        return -(-tokens // self.cache.page_size)

    def take_prefill(self, jobs: list[Job]) -> bool:
        """Take pages for what the jobs' prefill computes, evicting cached ones as if each job began a page. False: there are too few."""
        cache = self.cache
        tokens = sum(job.end - job.start for job in jobs)
        cache.make_room(tokens + (len(jobs) * cache.page_size if cache.page_size > 1 else 0))
        for job in jobs:
            cache.free -= self.pages(job.end) - self.pages(job.start)
            if not job.held:
                job.held = True
                self.rows -= 1
            job.sequence.computed = job.allocated = job.end
        return cache.free >= 0

    def fits_decode(self, jobs: list[Job]) -> bool:
        """Whether there is a place for each job's next token; evicts cached pages where need be."""
        size = self.cache.page_size
        if self.reserved:
            return self.cache.make_room(size * sum(self.pages(self._after(job)) - self.pages(job.allocated) for job in jobs))
        return self.cache.make_room(size * sum(job.sequence.computed % size == 0 for job in jobs))

    def take_decode(self, jobs: list[Job]) -> None:
        """Take a place for one more token of each job. `fits_decode` must have said that there are enough."""
        cache, size = self.cache, self.cache.page_size
        if self.reserved:
            self._take_reserved(jobs)
            return
        if size > 1:
            cache.make_room(len(jobs) * size)
        for job in jobs:
            cache.free -= job.sequence.computed % size == 0
            job.sequence.computed += 1

    def _take_reserved(self, jobs: list[Job]) -> None:
        """Take whole pages, so that each job has its reserve again."""
        cache, size = self.cache, self.cache.page_size
        after = [max(job.allocated, self.pages(job.sequence.computed + self.reserved) * size) for job in jobs]
        tokens = sum(after) - sum(job.allocated for job in jobs)
        if tokens:
            cache.make_room(tokens + (len(jobs) * size if size > 1 else 0))
        for job, places in zip(jobs, after, strict=True):
            cache.free -= self.pages(places) - self.pages(job.allocated)
            job.allocated = places

    def _after(self, job: Job) -> int:
        """Places of the job when it decodes next."""
        return max(job.allocated, job.sequence.computed + self.reserved)

    def keep(self, job: Job, tokens: int) -> None:
        """Enter the job's first `tokens` tokens in the tree, and lock them there; pages that the tree had already are given back."""
        cache, sequence = self.cache, job.sequence
        if not cache.enabled:
            return
        node, had = cache.insert(sequence, tokens)
        cache.free += max(0, had - job.kept)
        # a node ends where the prompt does, so that the output can be evicted by itself
        if 0 < sequence.prompt // cache.page_size < tokens // cache.page_size:
            cache.insert(sequence, sequence.prompt)
        if job.node is not None:
            cache.unlock(job.node)
        cache.lock(node)
        job.node, job.kept = node, node.end

    def release(self, job: Job, *, keep: bool) -> None:
        """Give back all memory of the job. keep: the tokens that it computed stay in the tree for others."""
        computed = job.sequence.computed
        if keep:
            self.keep(job, computed)
        self.cache.free += self.pages(max(computed, job.allocated)) - job.kept
        if job.node is not None:
            self.cache.unlock(job.node)
        job.node, job.kept, job.held, job.allocated = None, 0, False, 0
        self.rows += 1
