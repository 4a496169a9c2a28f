"""What must hold of any simulator that is calibrated from the law: times of few requests, and equal answers to equal questions."""

from collections.abc import Callable
from itertools import pairwise

from simulators.conformance.answer import EPSILON, Answered, Bounded, near, ratio
from simulators.conformance.case import Case
from simulators.conformance.scene import LAW, Scene

BUDGET = 512
MIXED = tuple(sorted((1e-3 * (7 * i % 5) + 0.013 * i, 20 + 37 * i % 700, 1 + 11 * i % 50) for i in range(60)))
IDS = tuple(1000 + (17 * i) % 60 for i in range(60))  # in another order than the requests

LONE = Scene(requests=((0.5, 100, 10),))
ONE_TOKEN = Scene(requests=((0.5, 100, 1),))
LONG_OUTPUT = Scene(requests=((0.5, 16, 400),))
LONG_PROMPT = Scene(requests=((0.5, 4000, 2),))
IDLE = Scene(requests=((0.5, 100, 10), (30.5, 100, 10)))
BURST = Scene(requests=((0.5, 64, 2),) * 8)
BATCH = Scene(requests=((0.5, 16, 300),) * 32)
LATER = Scene(requests=((100.5, 100, 10),))
OVERLOAD = Scene(requests=tuple((0.5 + 1e-3 * i, 128, 20) for i in range(200)))
MANY = Scene(requests=MIXED)
AGAIN = Scene(requests=MIXED)
PERMUTED = Scene(requests=MIXED, ids=IDS)
LONGER = Scene(requests=(*MIXED, (60.0, 300, 5)))


def burst(answer: Answered) -> Bounded:
    """The last prompt waits for no more than all eight one by one, and no less than all in one step."""
    last = max(answer.ttft(place) for place in answer.places)
    return Bounded(value=last, low=0.9 * LAW.prefill(8 * 64), high=1.1 * 8 * (LAW.prefill(64) + LAW.frontend))


def overload(answer: Answered) -> Bounded:
    """The end of 200 requests at once: the work of their tokens, and at most twice that with the fixed costs of as few steps as fit."""
    steps = 200 * 128 / BUDGET + 200 * 19 / 64
    work = 200 * (128 * LAW.token + 19 * LAW.sequence)
    return Bounded(value=max(answer.finished(p) for p in answer.places) - 0.5, low=0.9 * work, high=2 * (work + steps * LAW.fixed))


def wrong_records(answer: Answered) -> Bounded:
    """Requests that did not come back as they were asked."""
    asked = [(r.request_id, r.input_tokens, r.output_tokens) for r in answer.run.trace]
    came = [(r.request_id, r.input_tokens, r.output_tokens) for r in answer.run.records]
    return ratio(sum(a != b for a, b in zip(asked, came, strict=True)), 0, 0)


def out_of_order(answer: Answered) -> Bounded:
    """Requests whose times are not in the order of a request's life."""
    wrong = 0
    for place in answer.places:
        record = answer.record(place)
        times = [t for t in (record.arrival, record.sent, record.scheduled, record.first_token, record.finished) if t is not None]
        wrong += any(later < earlier - EPSILON for earlier, later in pairwise(times))
    return ratio(wrong, 0, 0)


def differing(one: Answered, other: Answered) -> Bounded:
    """Of the requests that both have, those that did not get the same times."""
    both = zip(one.places, other.places, strict=False)
    return ratio(sum(one.first(a) != other.first(b) or one.finished(a) != other.finished(b) for a, b in both), 0, 0)


def moved(one: Answered, other: Answered) -> Bounded:
    """How many of the requests that both have got other times, float sums aside."""
    both = zip(one.places, other.places, strict=False)
    return ratio(sum(abs(one.first(a) - other.first(b)) + abs(one.finished(a) - other.finished(b)) > EPSILON for a, b in both), 0, 0)


def _law(name: str, shows: str, scene: Scene, measure: Callable[..., Bounded]) -> Case:
    return Case(name=name, row=None, shows=shows, scenes=(scene,), measure=measure)


CASES = (
    _law(
        "lone_ttft",
        "A lone prompt's TTFT is its prefill step, with or without the front end.",
        LONE,
        lambda a: near(a.ttft(0), LAW.prefill(100), more=LAW.frontend),
    ),
    _law(
        "lone_e2e",
        "A lone request's E2E is its prefill and nine decode steps.",
        LONE,
        lambda a: near(a.finished(0) - a.sent(0), LAW.prefill(100) + LAW.decodes(1, 100, 10), more=LAW.frontend),
    ),
    _law(
        "one_token",
        "A request for one token ends with its first.",
        ONE_TOKEN,
        lambda a: Bounded(value=a.decoding(0), low=0.0, high=EPSILON),
    ),
    _law(
        "long_output",
        "400 tokens take 399 decode steps.",
        LONG_OUTPUT,
        lambda a: near(a.decoding(0), LAW.decodes(1, 16, 400)),
    ),
    _law(
        "very_long_prompt",
        "A prompt of 4,000 tokens takes eight steps of 512 or one.",
        LONG_PROMPT,
        lambda a: Bounded(value=a.ttft(0), low=0.9 * LAW.prefill(4000), high=1.1 * LAW.prompt(4000, BUDGET) + LAW.frontend),
    ),
    _law(
        "idle_gap", "After 30 idle seconds a request is served as the first was.", IDLE, lambda a: ratio(a.ttft(1) / a.ttft(0), 0.99, 1.01)
    ),
    _law("burst", "Eight prompts at once share steps or take turns, and no work is lost.", BURST, burst),
    _law(
        "batch",
        "32 requests that decode together take the steps of a batch of 32.",
        BATCH,
        lambda a: near(a.tpot(0), LAW.decode(32, 166), 0.15),
    ),
    _law("overload", "200 requests at once take the time of their work.", OVERLOAD, overload),
    _law("all_come_back", "Every request comes back once, with the tokens that were asked.", MANY, wrong_records),
    _law("order_of_times", "Sent, scheduled, first token and end of a request follow each other.", MANY, out_of_order),
    Case(name="twice_the_same", row=None, shows="Asked twice, it answers the same.", scenes=(MANY, AGAIN), measure=differing),
    Case(name="permuted_ids", row=None, shows="Other ids change no time.", scenes=(MANY, PERMUTED), measure=moved),
    Case(
        name="no_foresight",
        row=None,
        shows="A request long after the others changes nothing of theirs.",
        scenes=(MANY, LONGER),
        measure=moved,
    ),
    Case(
        name="shifted_clock",
        row=None,
        shows="100 s later a lone request has the same TTFT.",
        scenes=(LONE, LATER),
        measure=lambda a, b: ratio(b.ttft(0) / a.ttft(0), 0.99, 1.01),
    ),
)
