"""sglang: SGLang's scheduler (0.5.23): prefill first, in steps of its own, in chunks; decodes in the steps between; a radix cache.

Behaviour, not code, of sglang/srt/managers/scheduler.py (get_next_batch_to_run and what it calls), schedule_policy.py, schedule_batch.py
and scheduler_components/batch_result_processor.py: every step is compared with SGLang's own Scheduler in
tests/simulators/native/scheduling/test_against_sglang.py. Order of the queue: first come, first served, its default.

A request that waits is admitted before anybody decodes, as soon as there is KV memory for its prompt and for the output that is still
reserved for all. When decodes run out of memory all the same (outputs are longer than was reserved), the requests that have generated
least are retracted: they wait again, behind all others, and compute prompt and generated tokens anew. With Limits.in_flight = 2 (overlap
scheduling) a step is decided while the one before it runs: its tokens count as computed, but not yet as known.

With speculation a decode verifies drafts. It has places behind the committed tokens for all that this step and the one under way may write,
and what it accepts is committed, and known, when it ends. A step with prompts verifies none.
"""

from collections.abc import Sequence as Many

from simulators.errors import SimulatorError
from simulators.native.kv.radix_cache import RadixCache
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang_jobs import Job, Memory
from simulators.native.scheduling.sglang_prefill import Admission, AdmissionVerdict
from simulators.native.sequence import Batch, Sequence


class SglangScheduler:
    """A Scheduler for the given limits. `running` holds the jobs that decode, `waiting` those to be admitted, in order.

    Raises ValueError for limits that it cannot keep.
    """

    def __init__(self, limits: Limits) -> None:
        if limits.kept_tokens is not None:
            raise ValueError(f"the policy sglang keeps all of a context: kept_tokens must be left out, got {limits.kept_tokens}")
        if limits.kv_groups:
            raise ValueError("the policy sglang has one KV cache: kv_groups must be empty")
        self.limits, self.options = limits, limits.sglang
        self.cache = RadixCache(pages=limits.kv_blocks, page_size=limits.block_size, enabled=limits.prefix_caching)
        self._drafts = limits.speculation.num_speculative_tokens
        self.memory = Memory(self.cache, limits.max_num_seqs, reserved=limits.speculation.reserved_tokens(limits.block_size))
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.ratio = self.options.first_ratio
        self._full = False  # the batch is full: nobody is admitted until a job ends or leaves
        self._chunked: Job | None = None  # the job whose prompt is computed in part, if any
        self._last: list[Job] = []  # the jobs of the step before, when it had prompts
        self._last_chunked: Job | None = None
        self._under_way: Batch | None = None
        self._jobs: dict[Sequence, Job] = {}
        self._passes = 0

    @property
    def chunk_remains(self) -> bool:
        """Whether a prompt's computation has begun and not ended."""
        return self._chunked is not None

    def add(self, sequence: Sequence) -> None:
        """See Scheduler."""
        self._jobs[sequence] = job = Job(sequence)
        self.waiting.append(job)

    def has_work(self) -> bool:
        """See Scheduler. Asked without any, it is idle: the new token ratio starts afresh."""
        under_way = self._under_way is not None and not self._under_way.done
        work = bool(self.waiting or self.running or self._chunked or self._last or under_way)
        if not work:
            self.ratio = self.options.first_ratio
        return work

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        self._merge()
        if not self._schedule_prefill(batch):
            self._schedule_decode(batch)
        self._under_way = batch if batch.sequences else None
        return batch

    def finish(self, batch: Batch, now: float) -> None:
        """See Scheduler."""
        batch.done = True
        prefills = len(batch.samplers) - batch.decodes
        for place, sequence in enumerate(batch.samplers):
            job = self._jobs.get(sequence)
            if job is None or job.retracted:
                continue  # it ended, or was retracted, while this step was under way: the token is dropped
            new = 1 + self._accepted(sequence, batch.drafts[place])
            if self._drafts and place >= prefills:
                self._commit(job, new, verified=batch.drafts[place] > 0)
            new = min(new, sequence.end - sequence.total)
            sequence.total += new
            sequence.token_times += [now] * new
            if job.finished:
                self.memory.release(job, keep=True)
                del self._jobs[sequence]
            elif place < prefills:
                self.memory.keep(job, job.end)

    def _accepted(self, sequence: Sequence, drafts: int) -> int:
        """How many of the sequence's drafts a step accepted."""
        if not drafts:
            return 0
        accepted: int = self.limits.speculation.accepted(sequence.index, sequence.verified)
        sequence.verified += 1
        return accepted

    def _commit(self, job: Job, new: int, *, verified: bool) -> None:
        """With speculation tokens count as computed when they are accepted, no more of them than the job keeps; the token that a job gets
        from a step with prompts does not when it is its last.
        """
        sequence = job.sequence
        if verified or sequence.total + new < sequence.end:
            sequence.computed = min(sequence.computed + new, sequence.end)

    def withdraw(self, sequence: Sequence) -> bool:
        """See Scheduler. SGLang's instances do not hand running requests on."""
        return False

    def _merge(self) -> None:
        """Jobs whose prompts were computed in the step before decode from now on; complete jobs leave."""
        chunked, last, was_chunked = self._chunked, self._last, self._last_chunked
        if chunked is not None and chunked.end > chunked.start:
            self.memory.keep(chunked, chunked.end)
            chunked.start = chunked.end
        self._last, self._last_chunked = [], None
        joined = [job for job in last if not job.finished and job is not chunked and job is not was_chunked]
        if len(joined) < len(last):
            self._full = False
        if joined and not self.running:
            self._full = False
        self.running += joined
        unfinished = [job for job in self.running if not job.finished]
        if len(unfinished) < len(self.running):
            self.running, self._full = unfinished, False

    def _schedule_prefill(self, batch: Batch) -> bool:
        """Schedule prompts: first the one that was begun before, then those that wait. False: there are none, or none can be admitted."""
        if (self._full or not self.waiting) and self._chunked is None:
            return False
        if self._slots() <= 0 and self._chunked is None:
            self._full = True
            return False
        self._refresh()
        ngram = self._drafts > 0 and self.limits.speculation.method == "ngram"  # SGLang has no steps of both kinds with it
        mixed = self.options.mixed_chunk and self.limits.chunked_prefill and not ngram
        admission = Admission(self.limits, self.memory, self.running, self.ratio, len(self.running) if mixed else 0)
        if self._chunked is not None and not admission.resume(self._chunked):
            self._chunked = None
        self._admit(admission)
        if not admission.jobs:
            return False
        if admission.chunked is not None:
            self._chunked = admission.chunked
        self._commit_prefill(batch, admission.jobs)
        self._last, self._last_chunked = admission.jobs, self._chunked
        if mixed and self.running:
            self._mix(batch)
        return True

    def _admit(self, admission: Admission) -> None:
        for job in self.waiting:
            if admission.verdict() is AdmissionVerdict.STEP_FULL:
                break
            held = sum(job.held for job in admission.jobs)
            if len(admission.jobs) >= self._slots(held):
                self._full = True
            if self._full:
                break
            verdict = admission.add(job)
            if verdict is AdmissionVerdict.NO_MEMORY:
                self._full = bool(admission.jobs or self.running)
            if verdict is not AdmissionVerdict.GO_ON:
                break
        taken = set(map(id, admission.jobs))
        self.waiting = [job for job in self.waiting if id(job) not in taken]

    def _commit_prefill(self, batch: Batch, jobs: Many[Job]) -> None:
        fresh = [job for job in jobs if not job.held]
        if not self.memory.take_prefill(list(jobs)):
            raise SimulatorError("native: sglang has admitted more prompts than the KV cache has room for; that is a defect of ours")
        batch.admitted += [(job.sequence, job.start) for job in fresh]
        for job in jobs:
            job.retracted = False
            batch.sequences.append(job.sequence)
            batch.tokens.append(job.end - job.start)
            batch.count_prefill(job.end - job.start, job.start, recomputed=self.options.recomputes_prefixes)
            if job is not self._chunked:
                batch.samplers.append(job.sequence)
                batch.drafts.append(0)

    def _mix(self, batch: Batch) -> None:
        """The running jobs decode in the prefill step, where memory allows it."""
        ending = self._ending()
        if ending:
            self.running, self._full = [job for job in self.running if job not in ending], False
        if self.running and self.memory.fits_decode(self.running):
            self._decode(batch, self.running, drafts=0)
            self._last = [*self._last, *self.running]
            self.running = []

    def _schedule_decode(self, batch: Batch) -> None:
        """A token for each running job; without memory for all of them, some are retracted first."""
        before = len(self.running)
        ending = self._ending()
        self.running = [job for job in self.running if job not in ending]
        if not self.running:
            self._full = self._full and not before
            return
        if self.memory.fits_decode(self.running):
            self.ratio = max(self.ratio - self._decay, self.options.least_ratio)
        elif ending:
            self._full = False
            return  # the memory that they give back when this step ends may be enough
        else:
            self._retract(batch)
        if len(self.running) < before:
            self._full = False
        self._decode(batch, self.running, drafts=self._drafts)

    def _retract(self, batch: Batch) -> None:
        """Retract the jobs that have generated least (of equal ones, those with the longest prompts) until the others can go on for a
        while.
        """
        options = self.options
        keep = sorted(self.running, key=lambda job: (job.generated, -job.sequence.prompt), reverse=True)
        retracted: list[Job] = []
        while len(keep) > 1 and (not retracted or not self.memory.fits_decode(keep)):
            job = keep.pop()
            self.memory.release(job, keep=False)
            self.cache.make_room(len(keep) * options.retract_decode_steps)
            job.retracted = True
            job.sequence.preemptions += 1
            retracted.append(job)
        if not self.memory.fits_decode(keep):
            raise SimulatorError("native: one request alone outgrows the KV cache (SGLang would abort it); give it more tokens")
        if retracted:
            self.running = keep
        generated, asked = sum(job.generated for job in keep), sum(job.sequence.output for job in keep)
        self.ratio = min(1.0, (generated + options.retract_decode_steps * len(keep)) / (asked + 1))
        self.waiting += retracted
        batch.preempted += [job.sequence for job in retracted]

    def _decode(self, batch: Batch, jobs: Many[Job], *, drafts: int) -> None:
        """drafts: that may be accepted of each job's; a step with prompts verifies none."""
        verified = self.limits.speculation.verified_tokens if drafts else 1
        for job in jobs:
            batch.sequences.append(job.sequence)
            batch.tokens.append(verified)
            batch.samplers.append(job.sequence)
            batch.drafts.append(drafts)
            batch.draft_tokens += verified - 1
            batch.count_decode(job.sequence.computed)
        self.memory.take_decode(list(jobs))

    def _ending(self) -> set[Job]:
        """Running jobs whose last token is under way."""
        batch = self._under_way
        if batch is None or batch.done:
            return set()
        sampled = set(map(id, batch.sequences))
        return {job for job in self.running if id(job.sequence) in sampled and job.sequence.total + 1 >= job.sequence.end}

    def _slots(self, held: int = 0) -> int:
        """How many jobs can be in a prefill step, of which `held` have their memory already."""
        return min(self.limits.max_num_seqs - len(self.running), self.memory.rows + held)

    def _refresh(self) -> None:
        """Every refresh_interval passes, count the prefixes of waiting jobs as used; that of the first job counts as the latest."""
        options = self.options
        if not self.waiting or not self.cache.enabled:
            return
        if self._passes % options.refresh_interval == 0:
            for job in reversed(self.waiting[: options.refresh_requests]):
                self.cache.match(job.sequence, job.sequence.total)
        self._passes += 1

    @property
    def _decay(self) -> float:
        return (self.options.first_ratio - self.options.least_ratio) / self.options.new_token_ratio_decay_steps
