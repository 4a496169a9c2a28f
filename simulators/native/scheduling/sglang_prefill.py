"""Admission: which prompts, and how much of them, go into SGLang's next prefill step (PrefillAdder, managers/schedule_policy.py)."""

from collections.abc import Iterable
from enum import Enum, auto

from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang_jobs import Job, Memory


class AdmissionVerdict(Enum):
    """What follows a candidate: go on with the next one, or stop because KV memory or the step's budget is used up."""

    GO_ON = auto()
    NO_MEMORY = auto()
    STEP_FULL = auto()


class Admission:
    """The budgets of one prefill step. jobs: those in the step. chunked: the new job of which only a part is computed."""

    def __init__(self, limits: Limits, memory: Memory, running: Iterable[Job], ratio: float, mixed_decodes: int) -> None:
        options = limits.sglang
        self.jobs: list[Job] = []
        self.chunked: Job | None = None
        self._memory, self._page, self._clip = memory, limits.block_size, options.clip_max_new_tokens
        self._step_left = options.max_prefill_tokens - mixed_decodes
        self._chunk_left = limits.max_num_batched_tokens - mixed_decodes if limits.chunked_prefill else None
        self._now = float(mixed_decodes)  # tokens that this step will take
        share = 1.0 if options.ignore_eos else ratio
        self._running, self._play_through = list(running), options.ignore_eos and not memory.cache.enabled
        self._later = mixed_decodes + sum(min(job.sequence.output - job.generated, self._clip) * share for job in self._running)
        self._plan: list[tuple[float, int]] | None = None  # without a prefix cache: (tokens to come, tokens held) of all, soonest end first

    def resume(self, job: Job) -> bool:
        """Add the next chunk of a prompt that was begun; it goes on whatever memory is left. True: a part of it remains."""
        assert self._chunk_left is not None
        room = min(self._chunk_left, int(self._memory.cache.available - self._later))
        room = room if room > 0 else self._chunk_left
        rest = job.sequence.total - job.start
        job.end = job.start + min(rest, room)
        self.jobs.append(job)
        self._charge(job, 0 if rest > room else job.sequence.output)
        return rest > room

    def add(self, job: Job) -> AdmissionVerdict:
        """Try to add a job that waits. It is in the step when `jobs` ends with it."""
        cache = self._memory.cache
        if self._play_through:
            return self._add_without_cache(job)
        node = self._memory.match(job)
        cache.lock(node)
        refusal = self._choose(job)
        if refusal is not None:
            cache.unlock(node)
            return refusal
        job.node, job.kept = node, node.end
        self.jobs.append(job)
        self._charge(job, 0 if job is self.chunked else job.sequence.output)
        return self.verdict()

    def verdict(self) -> AdmissionVerdict:
        """Whether anything is left of the budgets."""
        available = self._memory.cache.available
        if available - self._later <= 0 or available - self._now <= 0:
            return AdmissionVerdict.NO_MEMORY
        if self._step_left <= 0 or (self._chunk_left is not None and self._chunk_left <= 0):
            return AdmissionVerdict.STEP_FULL
        return AdmissionVerdict.GO_ON

    def _choose(self, job: Job) -> AdmissionVerdict | None:
        """Set how far the job is computed in this step (`end`); returns a verdict when it is not in the step."""
        total, page = job.sequence.total, self._page
        rest = total - job.start
        new = min(max(job.sequence.output - job.generated, 0), self._clip)
        if rest + new + page >= self._memory.cache.available - self._later:
            return AdmissionVerdict.NO_MEMORY
        paged = -(-rest // page) * page
        if self._chunk_left is None:
            if self.jobs and paged >= self._step_left:
                return AdmissionVerdict.STEP_FULL
            job.end = total
        elif paged <= self._chunk_left:
            job.end = total
        else:
            end = (job.start + self._chunk_left // page * page) // page * page
            if end <= job.start:
                return AdmissionVerdict.STEP_FULL
            job.end = end
            self.chunked = job
        return None

    def _add_without_cache(self, job: Job) -> AdmissionVerdict:
        """Add a job where there is no prefix cache and all outputs' lengths are known: memory can be computed to the end of all jobs."""
        job.start, rest, cache = 0, job.sequence.total, self._memory.cache
        paged = -(-rest // self._page) * self._page + self._page
        if paged > min(cache.available - self._now, cache.available - self._later) or not self._lasts(job, paged):
            return AdmissionVerdict.NO_MEMORY
        if self._chunk_left is None or rest <= self._chunk_left:
            job.end = rest
        elif self._chunk_left <= 0:
            return AdmissionVerdict.STEP_FULL
        else:
            job.end, self.chunked = self._chunk_left, job
        self.jobs.append(job)
        self._charge(job, 0 if job is self.chunked else job.sequence.output)
        return self.verdict()

    def _lasts(self, job: Job, paged: int) -> bool:
        """Whether every decode step would have memory if this job were admitted."""
        if self._plan is None:
            plans = [(j.sequence.output - j.generated, j.sequence.total) for j in (job, *self._running, *self.jobs)]
            self._plan = sorted((p for p in plans if p[0] > 0), key=lambda p: p[0])
        elif (left := job.sequence.output - job.generated) > 0:
            # as SGLang does it: before the first job that ends no sooner, else before the last one
            place = next((i for i, (other, _) in enumerate(self._plan) if left <= other), max(0, len(self._plan) - 1))
            self._plan.insert(place, (left, job.sequence.total))
        free: float = self._memory.cache.available - self._now - paged
        for i, (to_come, held) in enumerate(self._plan):
            jobs = len(self._plan) - i
            if free - to_come * jobs <= jobs:
                return False
            free += held
        return True

    def _charge(self, job: Job, output: int) -> None:
        new = -(-(job.end - job.start) // self._page) * self._page
        self._now += new + self._page
        self._later += new + self._page + min(output, self._clip)
        self._step_left -= new
        if self._chunk_left is not None:
            self._chunk_left -= new
