"""What else shows without a real model: shared prefixes, context, the front end, token times, closed loops, replicas."""

import dataclasses
from statistics import median

from simulators.conformance.answer import EPSILON, Answered, Bounded, at_least, near, ratio
from simulators.conformance.case import Case
from simulators.conformance.law import KnownLaw
from simulators.conformance.scene import LAW, LIMITS, Scene

CURVED = KnownLaw(attention=1e-6)  # whose attention costs so much that context shows
COSTLY = KnownLaw(frontend=4e-2)
CHEAP = KnownLaw(frontend=5e-4)  # whose front end hides nothing

CACHING = dataclasses.replace(LIMITS, prefix_caching=True)
TWICE = ((0.5, 512, 4), (10.5, 512, 4))
SAME = Scene(requests=TWICE, shared=(31, 31), limits=CACHING)
HALF = Scene(requests=TWICE, law=CHEAP, shared=(16, 16), limits=CACHING)
OFF = Scene(requests=TWICE, shared=(31, 31))
SHORT_AND_LONG = Scene(requests=((0.5, 100, 20), (5.5, 2000, 20)), law=CURVED)
UNEVEN = Scene(requests=((0.5, 100, 300), (0.5, 1500, 300)))
LONE = Scene(requests=((0.5, 100, 10),))
BEHIND = Scene(requests=((0.5, 100, 10),), law=COSTLY)
STALL = Scene(requests=((0.5, 50, 60), (0.55, 450, 2)))
LOOP = Scene(requests=((0.0, 64, 20), (0.0, 64, 20), (20.0, 64, 20), (20.0, 64, 20)), concurrency=2)
ONE_ENGINE = Scene(requests=((0.5, 64, 100),) * 2, limits=dataclasses.replace(LIMITS, max_num_seqs=1))
REPLICAS = Scene(requests=((0.5, 64, 100),) * 2, limits=dataclasses.replace(LIMITS, data_parallel=2, max_num_seqs=1))


def context_ratio(answer: Answered) -> Bounded:
    """TPOT at a long context over TPOT at a short one; 1: it does not look at context."""
    return ratio(answer.tpot(1) / answer.tpot(0), 1.1)


def context_law(answer: Answered) -> Bounded:
    """Seconds of 19 decode steps with 2,000 tokens of context."""
    return near(answer.decoding(1), CURVED.decodes(1, 2000, 20), 0.15)


def token_times(answer: Answered) -> Bounded:
    """How many requests lack the time of a token, or have one that is before the last."""
    asked = answer.run.trace.requests
    wrong = [len(gaps) != asked[p].output_tokens - 1 or min(gaps) < 0 for p in answer.places for gaps in [answer.gaps(p)]]
    return ratio(sum(wrong), 0, 0)


def stall(answer: Answered) -> Bounded:
    """The longest gap between tokens over the usual one: a step with a prompt of 450 tokens in it is five times as long."""
    gaps = answer.gaps(0)
    return ratio(max(gaps) / median(gaps), 3.0)


def loop_kept(answer: Answered) -> Bounded:
    """Seconds from a simulated end to the request that it makes due."""
    return Bounded(value=answer.sent(2) - min(answer.finished(0), answer.finished(1)), low=-EPSILON, high=0.1)


CASES = (
    Case(
        name="same_prompt",
        row="prefix_caching",
        shows="A prompt that was computed before takes at most 0.7 of its time.",
        scenes=(SAME,),
        measure=lambda a: ratio(a.ttft(1) / a.ttft(0), 0.0, 0.7),
    ),
    Case(
        name="half_a_prompt",
        row="prefix_caching",
        shows="One whose first half was computed before takes the time of the other half.",
        scenes=(HALF,),
        measure=lambda a: near(a.ttft(1), CHEAP.prefill(256, 256), 0.15, more=CHEAP.frontend),
    ),
    Case(
        name="caching_off",
        row="prefix_caching",
        shows="With prefix caching off the same prompt takes as long again.",
        scenes=(OFF,),
        measure=lambda a: ratio(a.ttft(1) / a.ttft(0), 0.99, 1.01),
        control=True,
    ),
    Case(
        name="context_shows",
        row="context_dependent_decode",
        shows="A decode step takes longer with 2,000 tokens of context than with 100.",
        scenes=(SHORT_AND_LONG,),
        measure=context_ratio,
    ),
    Case(
        name="context_as_the_law_has_it",
        row="context_dependent_decode",
        shows="Decode steps with 2,000 tokens of context take the law's time.",
        scenes=(SHORT_AND_LONG,),
        measure=context_law,
    ),
    Case(
        name="front_end",
        row="frontend_cost",
        shows="A lone request's TTFT has the front end's 4 ms on top of the step.",
        scenes=(LONE,),
        measure=lambda a: near(a.ttft(0), LAW.prefill(100) + LAW.frontend, 0.15),
    ),
    Case(
        name="costly_front_end",
        row="frontend_cost",
        shows="A front end of 40 ms shows in the TTFT.",
        scenes=(BEHIND,),
        measure=lambda a: at_least(a.ttft(0), LAW.prefill(100) + COSTLY.frontend / 2),
    ),
    Case(
        name="time_of_each_token",
        row="token_times",
        shows="Each output token has its time.",
        scenes=(LONE,),
        measure=token_times,
    ),
    Case(
        name="stall_shows",
        row="token_times",
        shows="The token that waits for somebody's prompt is late.",
        scenes=(STALL,),
        measure=stall,
    ),
    Case(
        name="loop_is_kept",
        row="closed_loop",
        shows="In a closed loop a simulated end makes the next request due.",
        scenes=(LOOP,),
        measure=loop_kept,
    ),
    Case(
        name="two_replicas",
        row="data_parallel",
        shows="Two replicas with one seat each serve two requests side by side, one engine one after the other.",
        scenes=(ONE_ENGINE, REPLICAS),
        measure=lambda one, two: at_least(one.ttft(1) - two.ttft(1), 50 * LAW.decode(1, 100)),
    ),
)
