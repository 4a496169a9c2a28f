"""See engine.py of the readable engine: take what has arrived, schedule a step, let it take its time, hand its tokens back."""

from collections.abc import Callable

from simulators.native.fast import release, station, vllm_v1, waiting
from simulators.native.fast.compiled import DIGEST, compiled, kept
from simulators.native.fast.records import DONE, FULL, LIVELOCK, NONE, WAITS, EngineArrays
from simulators.native.latency.step_law import PREFILL_TOKENS, law_seconds

_seconds = compiled(law_seconds)
NEVER = float("inf")


@compiled
def _take_arrived(e: EngineArrays) -> None:
    """Let those wait that have reached the scheduler by now."""
    clock = e.clock[0]
    for server in range(len(e.servers)):
        station.serve(e, server, clock.now)
    sequence = station.reached(e, clock.now)
    while sequence != NONE:
        waiting.push(e, sequence)
        sequence = station.reached(e, clock.now)


@compiled
def _schedule(e: EngineArrays) -> None:
    """Schedule the next step, and log its work."""
    clock = e.clock[0]
    start = max(clock.now, clock.device_free)
    count, preempted = vllm_v1.schedule(e, start)
    if count:
        work = e.works[clock.logged]
        pieces = e.prompt_pieces if work[PREFILL_TOKENS] > 0 else e.pieces
        start = clock.device_free = start + _seconds(work, e.linear, pieces, e.terms, e.floor)
    batch = e.batches[clock.steps % len(e.batches)]
    clock.fruitless = 0 if batch.samplers else clock.fruitless + 1
    if count or preempted:
        clock.counted += 1
        clock.peak = max(clock.peak, len(e.pool.blocks) - e.pool.level[0].free)
    batch.end = start
    clock.logged += 1
    clock.steps += 1


def _make(digest: int) -> Callable[[EngineArrays, float], int]:
    def advance(e: EngineArrays, until: float) -> int:
        """Go on until second `until` (events at that second are left to the next call) or until a log is full; returns why it stopped.

        LIVELOCK: more steps than limits.livelock, one after the other, in which nobody got a token.
        """
        _ = digest
        clock, limits = e.clock[0], e.limits[0]
        # a token ends two runs of each sampler at most
        room = len(e.runs) - 2 * (1 + limits.num_speculative_tokens) * len(e.running)
        while clock.now < until:
            if clock.logged == len(e.works) or clock.runs > room:
                return FULL
            _take_arrived(e)
            under_way = clock.steps - clock.finished
            if under_way < limits.in_flight and clock.running + clock.waiting + clock.completed > 0:
                _schedule(e)
                if clock.fruitless > limits.livelock:
                    return LIVELOCK
            elif under_way:
                end = e.batches[clock.finished % len(e.batches)].end
                if end >= until:
                    return WAITS
                clock.now = max(clock.now, end)
                vllm_v1.finish(e, clock.finished)
                station.step_ended(e, clock.now)
                release.release(e)
                clock.finished += 1
            else:
                following = station.following(e)
                if following >= until:
                    return WAITS if following < NEVER else DONE
                clock.now = following
        return WAITS

    return kept(advance)


advance = _make(DIGEST)
