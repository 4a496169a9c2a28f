"""vllm_v1: the scheduler of vLLM's V1 engine (0.32): a token budget, running requests first, chunked prefill beside decodes.

Behaviour, not code: every step is compared with vLLM's own Scheduler class in tests/simulators/native/scheduling/test_against_vllm.py.

There is no prefill and no decode phase: a request has so many known tokens, and each step computes some of those that are not computed yet.
Under asynchronous scheduling (Limits.in_flight = 2) a step is scheduled while one is under way: the token that it
will generate is promised, and later steps can be scheduled before it is known.

With speculation a decode computes drafts behind the newest token. They count as computed, and promised, until the step ends; what is
rejected is taken back then, and its places are written over. Its blocks stay with the sequence.

Of a pipeline several steps are under way, and a decode is in one of them only: it waits until that has ended or, under asynchronous
scheduling, for as many steps as there are stages. Chunks of a prompt may follow each other in consecutive steps.
"""

import sys

from simulators.native.kv.grouped_cache import GroupedCache
from simulators.native.kv.kv_cache import KVCache
from simulators.native.scheduling.scheduler import Limits, PagedCache
from simulators.native.scheduling.waiting import ByPriority, FirstComeFirstServed, Waiting
from simulators.native.sequence import Batch, Sequence


class VllmV1:
    """A Scheduler for the given limits. `running` holds the admitted sequences in the order of admission."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cache = _cache(limits)
        self.waiting: Waiting = ByPriority() if limits.policy == "priority" else FirstComeFirstServed()
        self.running: list[Sequence] = []
        self._watermark = int(limits.watermark * (limits.kv_blocks + 1))  # vLLM counts its null block
        self._drafts, self._lookahead = limits.speculation.num_speculative_tokens, limits.speculation.num_lookahead_tokens
        self._asynchronous, self._stages = limits.asynchronous, limits.pipeline_parallel_size
        self._step = 0  # steps scheduled so far
        self._completed = False  # whether a sequence has become complete since the last step was scheduled

    def add(self, sequence: Sequence) -> None:
        """See Scheduler."""
        self.waiting.push(sequence)

    def has_work(self) -> bool:
        """See Scheduler. vLLM tells its workers of complete requests in the next step, be it an empty one."""
        return bool(self.running) or len(self.waiting) > 0 or self._completed

    def schedule(self) -> Batch:
        """See Scheduler."""
        batch = Batch()
        self._completed = False
        self._step += 1
        alone = len(self.running) + len(self.waiting) <= 1  # then a long prefill keeps nobody waiting
        longest = sys.maxsize if alone else self.limits.long_prefill_token_threshold or sys.maxsize
        budget = self._schedule_running(batch, self.limits.max_num_batched_tokens, longest)
        if not batch.preempted:
            self._schedule_waiting(batch, budget, longest)
        self._commit(batch)
        return batch

    def finish(self, batch: Batch, now: float) -> None:
        """See Scheduler."""
        batch.done = True
        completed = False
        for sequence, tokens in zip(batch.sequences, batch.tokens, strict=True):
            sequence.under_way -= tokens
        for place, sequence in enumerate(batch.samplers):
            if sequence.total == sequence.end:
                continue  # with more than two steps under way one step too many is scheduled, and its token is dropped
            accepted = self._accepted(sequence, batch.drafts[place])
            new, rejected = min(1 + accepted, sequence.end - sequence.total), batch.places[place] - accepted
            sequence.total += new
            sequence.token_times += [now] * new
            complete = sequence.total == sequence.end
            if sequence.running:
                sequence.promised -= (new + rejected) * self._asynchronous
                sequence.computed -= rejected
                sequence.drafts = self._drafts
                known = sequence.computed - sequence.promised
                if self._asynchronous and known >= sequence.next_name:
                    self.cache.remember(sequence, known)
                if complete:
                    if not sequence.held:
                        self.cache.release(sequence)
                    sequence.running = False
                    completed = True
            elif complete:  # preempted while its last token was under way
                self.waiting.remove(sequence)
            self._completed |= complete
        if completed:
            self.running = [s for s in self.running if s.running]

    def withdraw(self, sequence: Sequence) -> bool:
        """See Scheduler."""
        if not sequence.running or (sequence.last is not None and not sequence.last.done):
            return False
        self.running.remove(sequence)
        self.cache.release(sequence)
        sequence.running = False
        sequence.drafts = 0
        return True

    def _accepted(self, sequence: Sequence, drafts: int) -> int:
        """How many of the sequence's drafts a step accepted."""
        if not drafts:
            return 0
        accepted: int = self.limits.speculation.accepted(sequence.index, sequence.verified)
        sequence.verified += 1
        return min(accepted, drafts)

    def _schedule_running(self, batch: Batch, budget: int, longest: int) -> int:
        """Continue running sequences, in order; when blocks run out, preempt. Returns the budget that is left."""
        running, extend, most = self.running, self.cache.extend, self.limits.max_model_len
        index = 0
        while index < len(running) and budget > 0:
            sequence = running[index]
            if sequence.promised and sequence.computed + 2 - sequence.promised >= sequence.end:
                index += 1  # its last token is under way
                continue
            if self._step < sequence.eligible:
                index += 1  # in a stage of the pipeline
                continue
            tokens = sequence.total + sequence.promised + sequence.drafts - sequence.computed
            if tokens != 1:
                tokens = min(tokens, longest, budget, most - 1 - sequence.computed)
                if tokens <= 0:  # all its tokens are under way, or its drafts have reached max_model_len
                    index += 1
                    continue
            after = sequence.computed + tokens
            ahead = min(self._lookahead, most - after)
            while (after + ahead > sequence.room or after >= sequence.next_name) and not extend(sequence, tokens, ahead=ahead):
                victim = self._victim()
                place = running.index(victim)
                if place < index:  # by priority the victim may be one that this step already has
                    index -= 1
                    budget += self._unschedule(batch, victim)
                del running[place]
                self._preempt(victim)
                batch.preempted.append(victim)
                if victim is sequence:
                    return budget
            batch.sequences.append(sequence)
            batch.tokens.append(tokens)
            budget -= tokens
            index += 1
        return budget

    def _schedule_waiting(self, batch: Batch, budget: int, longest: int) -> None:
        """Admit waiting sequences, in order, until one does not fit the budget, the slots or the blocks."""
        cache, limits = self.cache, self.limits
        beside = bool(batch.sequences)
        uniform = self._drafts > 0 and not any(s.prefilling for s in batch.sequences)
        skipped = []
        while len(self.waiting) and budget > 0 and len(self.running) < limits.max_num_seqs:
            sequence = self.waiting.peek()
            if sequence.last is not None and not sequence.last.done:
                skipped.append(self.waiting.pop())  # preempted with a token still under way: it needs that token first
                continue
            prefix = cache.find_prefix(sequence)
            cached = len(prefix) * limits.block_size
            known = max(cached, sequence.received)
            tokens = sequence.total - known
            if uniform and tokens == 1 and (beside or known) and known + self._drafts + 2 <= limits.max_model_len:
                tokens += self._drafts  # as long as the other decodes, so that a CUDA graph fits; there are no drafts yet
                if tokens > budget:
                    break
            tokens = min(tokens, longest)
            if tokens > budget and not limits.chunked_prefill:
                break
            tokens = min(tokens, budget)
            spare = self._watermark if self.running else 0
            ahead = min(self._lookahead, limits.max_model_len - known - tokens)
            if not cache.admit(sequence, prefix, known - cached + tokens, spare=spare, whole=limits.reserve_full_prompt, ahead=ahead):
                break
            self.running.append(self.waiting.pop())
            sequence.running = True
            sequence.computed = known
            batch.admitted.append((sequence, cached))
            batch.sequences.append(sequence)
            batch.tokens.append(tokens)
            budget -= tokens
        for sequence in reversed(skipped):
            self.waiting.put_back(sequence)

    def _commit(self, batch: Batch) -> None:
        """Count the scheduled tokens as computed, promise the tokens that they generate, and sum up the step's work."""
        samplers = batch.samplers
        for sequence, tokens in zip(batch.sequences, batch.tokens, strict=True):
            context = sequence.computed
            sequence.computed = after = context + tokens
            sequence.under_way += tokens
            sequence.last = batch
            places = after - sequence.total - sequence.promised
            sequence.prefilling = places < 0
            if places >= 0:
                if self._asynchronous:
                    sequence.promised += 1 + places
                    sequence.eligible = self._step + self._stages
                samplers.append(sequence)
                batch.places.append(places)
                batch.drafts.append(min(places, sequence.drafts))
                batch.draft_tokens += places
                tokens -= places
            sequence.drafts = self._drafts if places >= 0 and self._asynchronous else 0
            batch.count(tokens, context)

    def _victim(self) -> Sequence:
        """The sequence to preempt: the newest one; by priority the one that goes last, and of several the latest."""
        if self.limits.policy == "priority":
            return max(self.running, key=lambda s: (s.priority, s.arrival))
        return self.running[-1]

    def _unschedule(self, batch: Batch, victim: Sequence) -> int:
        """Take a sequence out of the step being made; returns its tokens (0 when it had none in it)."""
        if victim not in batch.sequences:
            return 0
        place = batch.sequences.index(victim)
        del batch.sequences[place]
        return batch.tokens.pop(place)

    def _preempt(self, victim: Sequence) -> None:
        """Take its blocks; it waits again, and its tokens are to be computed anew (as far as the prefix cache has lost them)."""
        self.cache.release(victim)
        victim.running = False
        victim.computed = 0
        victim.promised = 0
        victim.drafts = 0
        victim.received = 0
        victim.preemptions += 1
        self.waiting.put_back(victim)


def _cache(limits: Limits) -> PagedCache:
    """The KV memory that the limits describe, empty."""
    if limits.kv_groups:
        return GroupedCache(
            limits.kv_groups,
            num_blocks=limits.kv_blocks,
            block_size=limits.block_size,
            prefix_caching=limits.prefix_caching,
            most_tokens=limits.most_under_way,
        )
    return KVCache(
        num_blocks=limits.kv_blocks,
        block_size=limits.block_size,
        prefix_caching=limits.prefix_caching,
        kept_tokens=limits.kept_tokens,
        drops_last_hit=limits.speculation.drops_last_hit,
    )
