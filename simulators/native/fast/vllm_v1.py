"""See vllm_v1.py of the readable engine."""

from simulators.native.fast import kv_cache, waiting
from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, EngineArrays
from simulators.native.latency.step_law import (
    DECODE_CONTEXT,
    DECODES,
    MIXED_CONTEXT,
    MIXED_DECODES,
    MIXED_WINDOW_CONTEXT,
    NEW_TOKENS,
    PREFILL_CONTEXT,
    PREFILL_PAIRS,
    PREFILL_TOKENS,
    PROMPT_STEPS,
    SEQUENCES,
    WINDOW_CONTEXT,
    WINDOW_PAIRS,
    WINDOW_PREFILL_CONTEXT,
)
from simulators.native.latency.windows import windowed_pairs

NO_LIMIT = 2**31 - 1
_windowed_pairs = compiled(windowed_pairs)


@compiled
def schedule(e: EngineArrays, start: float) -> tuple[int, int]:
    """Decide the next step, which begins at `start`, and log its work. Returns its sequences and how many it preempted.

    Its samplers and their number are in the ring of steps under way, at the step's number.
    """
    clock, limits = e.clock[0], e.limits[0]
    clock.completed = 0
    alone = clock.running + clock.waiting <= 1  # then a long prefill keeps nobody waiting
    longest = limits.long_prefill_token_threshold if limits.long_prefill_token_threshold and not alone else NO_LIMIT
    count, budget, preempted = _schedule_running(e, limits.max_num_batched_tokens, longest)
    if not preempted:
        count = _schedule_waiting(e, count, budget, longest, start)
    _commit(e, count)
    return count, preempted


@compiled
def finish(e: EngineArrays, step: int) -> None:
    """The step has ended: its samplers have one more token each."""
    sequences, samplers, limits = e.sequences, e.samplers, e.limits[0]
    row = step % len(samplers)
    for place in range(e.batches[row].sequences if len(e.groups) else 0):
        sequences[e.scheduled[row, place]].under_way -= e.tokens[row, place]
    completed = False
    for place in range(e.batches[row].samplers):
        index = samplers[row, place]
        s = sequences[index]
        if s.total == s.end:
            continue  # with more than two steps under way one is scheduled too many, and its token dropped
        accepted = 0
        if e.drafts[row, place]:
            accepted = min(e.accepted[s.verified], e.drafts[row, place])
            s.verified += 1
        new, rejected = min(1 + accepted, s.end - s.total), e.places[row, place] - accepted
        s.total += new
        e.servers[s.server].tokens += 1
        for _ in range(new):
            if step == s.run_start + s.run_length:
                s.run_length += 1
            else:
                _begin_run(e, index, step)
        complete = s.total == s.end
        if s.slot != NONE:
            s.promised -= new + rejected
            s.computed -= rejected
            s.drafts = limits.num_speculative_tokens
            known = s.computed - s.promised
            if limits.in_flight > 1 and known >= s.next_name:
                kv_cache.remember(e, index, known)
            if complete:
                kv_cache.release(e, index, False)
                completed = True
        elif complete:  # preempted while its last token was under way
            waiting.remove(e, index)
        if complete:
            _log_run(e, index)
            e.completed[e.loop[0].completed] = index
            e.loop[0].completed += 1
            e.clock[0].completed = 1
    if completed:
        kept = 0
        for place in range(e.clock[0].running):
            if sequences[e.running[place]].slot != NONE:
                e.running[kept] = e.running[place]
                kept += 1
        e.clock[0].running = kept


@compiled
def _schedule_running(e: EngineArrays, budget: int, longest: int) -> tuple[int, int, int]:
    """Continue running sequences, in order; when blocks run out, preempt. Returns sequences, budget left, preempted."""
    clock, limits, running, sequences = e.clock[0], e.limits[0], e.running, e.sequences
    step = clock.steps % len(e.batches)
    scheduled, tokens_of = e.scheduled[step], e.tokens[step]
    count = preempted = index = 0
    while index < clock.running and budget > 0:
        sequence = running[index]
        s = sequences[sequence]
        if s.promised and s.computed + 2 - s.promised >= s.end:
            index += 1  # its last token is under way
            continue
        tokens = s.total + s.promised + s.drafts - s.computed
        if tokens != 1:
            tokens = min(tokens, longest, budget, limits.max_model_len - 1 - s.computed)
            if tokens <= 0:  # its drafts have reached max_model_len
                index += 1
                continue
        after = s.computed + tokens
        ahead = min(limits.num_lookahead_tokens, limits.max_model_len - after)
        while (after + ahead > s.room or after >= s.next_name) and not kv_cache.extend(e, sequence, after, ahead):
            place = waiting.victim(e)
            victim = running[place]
            if place < index:  # by priority the victim may be one that this step already has
                index -= 1
                count, given_back = _unschedule(e, victim, count)
                budget += given_back
            clock.running -= 1
            for later in range(place, clock.running):
                running[later] = running[later + 1]
            _preempt(e, victim)
            preempted += 1
            if victim == sequence:
                return count, budget, preempted
        scheduled[count], tokens_of[count] = sequence, tokens
        count += 1
        budget -= tokens
        index += 1
    return count, budget, preempted


@compiled
def _unschedule(e: EngineArrays, victim: int, count: int) -> tuple[int, int]:
    """Take a sequence out of the step being made; returns how many are left in it, and its tokens (0 when it had none in it)."""
    step = e.clock[0].steps % len(e.batches)
    scheduled, tokens_of = e.scheduled[step], e.tokens[step]
    for place in range(count):
        if scheduled[place] == victim:
            tokens = tokens_of[place]
            for later in range(place, count - 1):
                scheduled[later], tokens_of[later] = scheduled[later + 1], tokens_of[later + 1]
            return count - 1, tokens
    return count, 0


@compiled
def _schedule_waiting(e: EngineArrays, count: int, budget: int, longest: int, start: float) -> int:
    """Admit waiting sequences, in order, until one does not fit the budget, the slots or the blocks. Returns the step's sequences."""
    clock, limits = e.clock[0], e.limits[0]
    step = clock.steps % len(e.batches)
    scheduled, tokens_of = e.scheduled[step], e.tokens[step]
    beside, uniform = count > 0, limits.num_speculative_tokens > 0
    if uniform:
        for place in range(count):
            uniform = uniform and not e.sequences[scheduled[place]].prefilling
    skipped = 0
    while skipped < clock.waiting and budget > 0 and clock.running < limits.max_num_seqs:
        sequence = e.waiting[(clock.head + skipped) % len(e.waiting)]
        s = e.sequences[sequence]
        if s.last >= clock.finished:
            skipped += 1  # preempted with a token still under way: it needs that token first
            continue
        prefix = kv_cache.find_prefix(e, sequence)
        cached = prefix * limits.block_size
        tokens = s.total - cached
        if uniform and tokens == 1 and (beside or cached) and cached + limits.num_speculative_tokens + 2 <= limits.max_model_len:
            tokens += limits.num_speculative_tokens
            if tokens > budget:
                break
        tokens = min(tokens, longest)
        if tokens > budget and not limits.chunked_prefill:
            break
        tokens = min(tokens, budget)
        ahead = min(limits.num_lookahead_tokens, limits.max_model_len - cached - tokens)
        if not kv_cache.admit(e, sequence, prefix, tokens, limits.watermark if clock.running else 0, ahead):
            break
        waiting.pop(e, skipped)
        e.running[clock.running] = sequence
        clock.running += 1
        s.computed = cached
        if s.cached == NONE:
            s.scheduled, s.cached = start, cached
        scheduled[count], tokens_of[count] = sequence, tokens
        count += 1
        budget -= tokens
    return count


@compiled
def _commit(e: EngineArrays, count: int) -> None:
    """Count the scheduled tokens as computed, promise the tokens that they generate, and sum up the step's work."""
    sequences, samplers, work = e.sequences, e.samplers, e.works[e.clock[0].logged]
    limits, step = e.limits[0], e.clock[0].steps
    row = step % len(samplers)
    scheduled, tokens_of = e.scheduled[row], e.tokens[row]
    sampling = decodes = decode_context = prefill_tokens = prefill_context = draft_tokens = window_context = window_prefill = 0
    prefill_pairs = window_pairs = 0.0
    most = e.reach[0] - 1  # see latency/windows.py; negative: there are no windows
    for place in range(count):
        sequence, tokens = scheduled[place], tokens_of[place]
        s = sequences[sequence]
        context = s.computed
        s.computed = context + tokens
        s.under_way += tokens
        s.last = step
        places = s.computed - s.total - s.promised
        s.prefilling = 1 if places < 0 else 0
        if places >= 0:
            s.promised += 1 + places
            samplers[row, sampling] = sequence
            e.places[row, sampling], e.drafts[row, sampling] = places, min(places, s.drafts)
            sampling += 1
            draft_tokens += places
            tokens -= places
        s.drafts = limits.num_speculative_tokens if places >= 0 and limits.in_flight > 1 else 0
        if tokens == 1 and context:  # see Batch.count
            decodes += 1
            decode_context += context
            if most >= 0:
                window_context += min(context, most)
        else:
            prefill_tokens += tokens
            prefill_context += context
            prefill_pairs += tokens * (context + 0.5 * (tokens + 1))
            if most >= 0:
                window_prefill += min(context, most)
                window_pairs += _windowed_pairs(tokens, context, most)
    e.batches[row].samplers, e.batches[row].sequences = sampling, count
    work[NEW_TOKENS], work[SEQUENCES] = prefill_tokens + decodes + draft_tokens, count
    work[DECODES], work[DECODE_CONTEXT] = decodes, decode_context
    work[PREFILL_TOKENS], work[PREFILL_CONTEXT], work[PREFILL_PAIRS] = prefill_tokens, prefill_context, prefill_pairs
    work[MIXED_CONTEXT], work[MIXED_DECODES] = (decode_context, decodes) if prefill_tokens else (0, 0)
    work[PROMPT_STEPS] = 1 if prefill_tokens else 0
    work[WINDOW_CONTEXT], work[WINDOW_PREFILL_CONTEXT], work[WINDOW_PAIRS] = window_context, window_prefill, window_pairs
    work[MIXED_WINDOW_CONTEXT] = window_context if prefill_tokens else 0


@compiled
def _preempt(e: EngineArrays, victim: int) -> None:
    """Take its blocks; it waits again, and its tokens are to be computed anew."""
    s = e.sequences[victim]
    kv_cache.release(e, victim, True)
    s.computed = s.promised = s.drafts = 0
    s.preemptions += 1
    waiting.put_back(e, victim)


@compiled
def _begin_run(e: EngineArrays, index: int, step: int) -> None:
    """Its first token, or the first after a gap."""
    s = e.sequences[index]
    if s.run_length:
        _log_run(e, index)
    s.run_start, s.run_length = step, 1


@compiled
def _log_run(e: EngineArrays, index: int) -> None:
    s, run = e.sequences[index], e.runs[e.clock[0].runs]
    run.sequence, run.start, run.length = index, s.run_start, s.run_length
    e.clock[0].runs += 1
