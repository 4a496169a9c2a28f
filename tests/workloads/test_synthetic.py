"""Synthetic workloads follow the laws they are given, from one seed, and conversations share what they should."""

import os
import subprocess
import sys
from typing import Any

import pytest

from results.project.folder import ROOT
from workloads.lengths import Fixed, Lognormal
from workloads.prompts import token_ids
from workloads.synthetic import Conversations, Synthetic
from workloads.trace import Trace, TraceError


def synthetic(**settings: Any) -> Synthetic:
    return Synthetic(name="s", input=Lognormal(mean=100.0, cv=1.0, most=900), output=Lognormal(mean=10.0, cv=0.5, most=50), **settings)


def conversations(**settings: Any) -> Conversations:
    defaults: dict[str, Any] = {"turns": 2.0, "most": 1000, "system_tokens": 32}
    return Conversations(name="c", message=Lognormal(mean=60.0, cv=1.0, most=700), output=Fixed(tokens=20), **(defaults | settings))


def made(workload: Synthetic | Conversations, *, rate: float | None = 5.0, n: int | None = 300, seed: int = 0, **more: Any) -> Trace:
    return workload.trace(rate=rate, num_requests=n, seed=seed, **more)


@pytest.mark.parametrize("workload", [synthetic(), synthetic(arrivals="gamma", burstiness=0.1), conversations()])
class TestBoth:
    def test_one_seed_one_trace(self, workload: Synthetic | Conversations) -> None:
        assert made(workload, seed=3).sha256 == made(workload, seed=3).sha256 != made(workload, seed=4).sha256

    def test_the_requests_are_the_same_at_every_rate(self, workload: Synthetic | Conversations) -> None:
        slow, fast, at_once = (made(workload, rate=rate) for rate in (1.0, 50.0, float("inf")))
        bodies = [[(r.input_tokens, r.output_tokens, r.blocks) for r in trace] for trace in (slow, fast, at_once)]
        assert bodies[0] == bodies[1] == bodies[2]
        assert at_once.duration == 0.0

    def test_fewer_requests_are_the_first_of_more(self, workload: Synthetic | Conversations) -> None:
        assert made(workload, n=50).requests == made(workload, n=120).requests[:50]

    def test_its_own_rate_and_number_hold_when_none_are_asked(self, workload: Synthetic | Conversations) -> None:
        assert len(made(workload, n=None)) == 200
        with pytest.raises(TraceError, match=r"give it a rate .* workload\.rate"):
            made(workload, rate=None)

    def test_a_request_too_long_is_named(self, workload: Synthetic | Conversations) -> None:
        with pytest.raises(TraceError, match=r"request \d+ has \d+ \+ \d+ tokens, more than max_model_len 200; bound its length laws"):
            made(workload, max_model_len=200)


def test_a_rate_of_its_own() -> None:
    trace = made(synthetic(rate=2.0), rate=None, n=5000)
    assert trace.rate == pytest.approx(2.0, rel=4 / 5000**0.5)


def test_input_output_and_arrivals_are_independent_streams() -> None:
    bursty, calm = made(synthetic(arrivals="gamma", burstiness=0.1)), made(synthetic())
    assert [r.input_tokens for r in bursty] == [r.input_tokens for r in calm]
    assert [r.arrival for r in bursty] != [r.arrival for r in calm]


def test_conversations_share_the_earlier_turns_and_the_system_prompt() -> None:
    trace = made(conversations(), n=60)
    prompts = token_ids(trace, vocab_size=32000, seed=0)
    assert len({tuple(prompt[:32]) for prompt in prompts}) == 1
    begun: dict[int, int] = {}  # first own block of a conversation -> its last request
    continued = 0
    for i, request in enumerate(trace):
        own = request.blocks[2]
        if own in begun:
            continued += 1
            earlier = prompts[begun[own]]
            assert prompts[i][: len(earlier)] == earlier
            assert len(prompts[i]) > len(earlier) + 20  # the answer of 20 tokens, and a new message
        begun[own] = i
    assert continued > 10
    assert all(prompts[a][32] != prompts[b][32] for a in begun.values() for b in begun.values() if a != b)


def test_conversations_begin_at_their_share_of_arrivals_and_stay_below_most() -> None:
    trace = made(conversations(turns=4.0, most=10**6), n=4000)
    begun = len({r.blocks[2] for r in trace})
    assert abs(begun / 4000 - 1 / 4) < 4 * (3 / 16 / 4000) ** 0.5
    assert max(r.input_tokens + r.output_tokens for r in made(conversations(turns=50.0), n=1000)) <= 1000


def test_a_conversation_that_ended_is_not_continued() -> None:
    # every turn is 80 tokens and two of them fill a conversation: were full ones still chosen, nearly every arrival would begin a new one
    two_turns = Conversations(name="c", message=Fixed(tokens=60), output=Fixed(tokens=20), turns=1000.0, most=192, system_tokens=32)
    trace = made(two_turns, n=2000)
    begun = len({r.blocks[2] for r in trace})
    assert begun / 2000 == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "settings",
    [{"rate": -1.0}, {"num_requests": 0}, {"arrivals": "own"}, {"turns": 0.5}, {"system_tokens": 33}, {"block_size": 0}],
)
def test_a_setting_out_of_its_range_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"workload\.|request rate"):
        conversations(**settings)


def test_the_hash_seed_of_python_does_not_matter() -> None:
    script = (
        "from workloads.synthetic import *; from workloads.lengths import *;"
        "w = Conversations(name='c', message=Lognormal(mean=60.0, cv=1.0, most=700), output=Fixed(tokens=20), turns=2.0, most=1000,"
        " system_tokens=32, arrivals='gamma', burstiness=0.3);"
        "print(w.trace(rate=5.0, num_requests=300, seed=9).sha256)"
    )
    here = made(conversations(arrivals="gamma", burstiness=0.3), seed=9).sha256
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        out = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True).stdout
        assert out.strip() == here


@pytest.mark.parametrize(
    ("workload", "sha256"),
    [
        (synthetic(), "fe86fbedd2c282bd"),
        (synthetic(arrivals="gamma", burstiness=0.1), "2aad13d44303deac"),
        (conversations(), "043adf39bc9459d9"),
    ],
)
def test_the_content_is_pinned_so_that_every_machine_makes_the_same(workload: Synthetic | Conversations, sha256: str) -> None:
    assert made(workload).sha256[:16] == sha256
