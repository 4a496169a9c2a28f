"""The engine's limits: token budget, sequences, KV cache, and who gives way."""

import dataclasses
from itertools import pairwise

from simulators.conformance.answer import EPSILON, Answered, Bounded, at_least, near
from simulators.conformance.case import Case
from simulators.conformance.law import KnownLaw
from simulators.conformance.scene import LAW, LIMITS, Scene

STEEP = KnownLaw(fixed=2e-2)  # whose steps cost so much that their number shows
INFINITE = float("inf")


# The first is some tokens from its end when the long prompt comes; the prompt's eight pieces take 0.1 s.
BESIDE = Scene(requests=((0.5, 50, 22), (0.54, 4000, 2)))
PIECES = Scene(requests=((0.5, 2048, 2),), law=STEEP)
PROMPTS = ((0.5, 256, 2),) * 8
NARROW = Scene(requests=PROMPTS, law=STEEP, limits=dataclasses.replace(LIMITS, max_num_batched_tokens=256))
WIDE = Scene(requests=PROMPTS, law=STEEP, limits=dataclasses.replace(LIMITS, max_num_batched_tokens=1024))
EIGHT = ((0.5, 32, 50),) * 8
FOUR_SEATS = Scene(requests=EIGHT, limits=dataclasses.replace(LIMITS, max_num_seqs=4))
EIGHT_SEATS = Scene(requests=EIGHT, limits=dataclasses.replace(LIMITS, max_num_seqs=8))
ONE_SEAT = Scene(requests=EIGHT[:3], limits=dataclasses.replace(LIMITS, max_num_seqs=1))
SMALL_KV = dataclasses.replace(LIMITS, kv_tokens=1024)
FOUR_LARGE = ((0.5, 400, 60),) * 4
TIGHT = Scene(requests=FOUR_LARGE, limits=SMALL_KV)
AMPLE = Scene(requests=FOUR_LARGE)
WHOLE = Scene(requests=((0.5, 850, 100),), limits=SMALL_KV)
TWO_GROW = Scene(requests=((0.5, 300, 400), (0.501, 300, 400)), limits=SMALL_KV)


def decode_goes_on(answer: Answered) -> Bounded:
    """The running request ends before the long prompt is through: seconds between the two."""
    return at_least(answer.first(1) - answer.finished(0), LAW.prefill(512))


def waits(answer: Answered, place: int, most: int) -> Bounded:
    """Seconds that a request's first token comes after the earliest end of the `most` before it."""
    return at_least(answer.first(place) - min(answer.finished(other) for other in range(most)), -EPSILON)


def starts_beside(answer: Answered, place: int) -> Bounded:
    """Seconds that a request's first token comes before the earliest end of the others."""
    return at_least(min(answer.finished(other) for other in answer.places) - answer.first(place), 0.0)


def last_prompt(answer: Answered) -> float:
    """The TTFT of the prompt that was computed last."""
    return max(answer.ttft(place) for place in answer.places)


def closest_prompts(answer: Answered) -> float:
    """Seconds between the two first tokens that are closest: none, where two prompts were computed in one step."""
    times = sorted(answer.first(place) for place in answer.places)
    return min(later - earlier for earlier, later in pairwise(times))


def given_back(answer: Answered) -> Bounded:
    """Both start at once though both do not fit to their ends: seconds that the second still decodes when the first has ended.

    Each has come about half its way when the cache is full; one that waited from its first token on has 399 steps left.
    """
    if answer.first(1) > answer.finished(0):
        return Bounded(value=-1.0, low=0.0, high=INFINITE)
    ends = sorted(answer.finished(place) for place in answer.places)
    return Bounded(value=ends[1] - ends[0], low=50 * LAW.decode(1, 600), high=300 * LAW.decode(1, 600))


CASES = (
    Case(
        name="decode_goes_on",
        row="chunked_prefill",
        shows="A running request goes on between the pieces of a prompt of 4,000 tokens.",
        scenes=(BESIDE,),
        measure=decode_goes_on,
    ),
    Case(
        name="each_piece_is_a_step",
        row="chunked_prefill",
        shows="A prompt of four budgets pays the fixed cost of four steps.",
        scenes=(PIECES,),
        measure=lambda a: near(a.ttft(0), STEEP.prompt(2048, 512), more=STEEP.frontend),
        control=True,
    ),
    Case(
        name="budget_of_one_prompt",
        row="token_budget",
        shows="Eight prompts as long as the budget take eight steps, each with the first token of one.",
        scenes=(NARROW,),
        measure=lambda a: at_least(closest_prompts(a), 0.7 * STEEP.prefill(256)),
    ),
    Case(
        name="budget_of_four_prompts",
        row="token_budget",
        shows="Eight prompts take two steps, or three, of four times their length.",
        scenes=(WIDE,),
        measure=lambda a: Bounded(value=last_prompt(a), low=0.9 * 2 * STEEP.prefill(1024), high=1.1 * 3 * STEEP.prefill(1024)),
        control=True,
    ),
    Case(
        name="four_seats",
        row="max_num_seqs",
        shows="With max_num_seqs=4 the fifth request starts when one of the four has ended.",
        scenes=(FOUR_SEATS,),
        measure=lambda a: waits(a, 4, 4),
    ),
    Case(
        name="eight_seats",
        row="max_num_seqs",
        shows="With max_num_seqs=8 the eighth request starts beside the others.",
        scenes=(EIGHT_SEATS,),
        measure=lambda a: starts_beside(a, 7),
        control=True,
    ),
    Case(
        name="one_seat",
        row="max_num_seqs",
        shows="With max_num_seqs=1 requests are served one after the other.",
        scenes=(ONE_SEAT,),
        measure=lambda a: at_least(min(a.first(1) - a.finished(0), a.first(2) - a.finished(1)), -EPSILON),
    ),
    Case(
        name="kv_full",
        row="kv_limit",
        shows="Of four requests of which two fill the KV cache, the third waits.",
        scenes=(TIGHT,),
        measure=lambda a: waits(a, 2, 2),
    ),
    Case(
        name="kv_ample",
        row="kv_limit",
        shows="Where all four fit, none waits.",
        scenes=(AMPLE,),
        measure=lambda a: starts_beside(a, 3),
        control=True,
    ),
    Case(
        name="kv_just_fits",
        row="kv_limit",
        shows="A request that nearly fills the KV cache is served as if alone.",
        scenes=(WHOLE,),
        measure=lambda a: near(a.decoding(0), LAW.decodes(1, 850, 100)),
        control=True,
    ),
    Case(
        name="gives_way",
        row="preemption",
        shows="Two requests that outgrow the KV cache start together, and one gives way until the other has ended.",
        scenes=(TWO_GROW,),
        measure=given_back,
    ),
)
