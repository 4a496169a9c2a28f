"""Prompts share exactly the leading blocks that the trace says, token for token, and are the same on every machine."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.project.folder import ROOT
from workloads.prompts import RESERVED, token_ids
from workloads.trace import Request, Trace

VOCABULARY = 32000


def trace_of(*prompts: tuple[int, tuple[int, ...]], block_size: int | None = 16) -> Trace:
    requests = (Request(request_id=i, arrival=0.0, input_tokens=n, output_tokens=1, blocks=b) for i, (n, b) in enumerate(prompts))
    return Trace(name="t", requests=tuple(requests), block_size=block_size)


def common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def said(trace: Trace, a: Request, b: Request) -> int:
    """The tokens that the trace says two requests share."""
    blocks = next((i for i, (x, y) in enumerate(zip(a.blocks, b.blocks, strict=False)) if x != y), min(len(a.blocks), len(b.blocks)))
    return min(blocks * (trace.block_size or 0), a.input_tokens, b.input_tokens)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    block_size = draw(st.sampled_from([1, 3, 16]))
    prompts = []
    for _ in range(draw(st.integers(1, 15))):
        n = draw(st.integers(1, 60))
        prompts.append((n, tuple(draw(st.lists(st.integers(0, 3), max_size=-(-n // block_size))))))
    return trace_of(*prompts, block_size=block_size)


@settings(deadline=None, max_examples=200)
@given(trace=traces(), seed=st.integers(-5, 5), vocabulary=st.sampled_from([40, VOCABULARY]), first=st.sampled_from([0, RESERVED]))
def test_two_prompts_share_exactly_what_the_trace_says(trace: Trace, seed: int, vocabulary: int, first: int) -> None:
    prompts = token_ids(trace, vocab_size=vocabulary, first_id=first, seed=seed)
    for a, prompt in zip(trace, prompts, strict=True):
        assert len(prompt) == a.input_tokens
        assert all(first <= token < vocabulary for token in prompt)
        for b, other in zip(trace, prompts, strict=True):
            if a.request_id < b.request_id:
                assert common(prompt, other) == said(trace, a, b)


def test_a_shared_last_block_may_be_part_of_a_block() -> None:
    trace = trace_of((20, (7, 8)), (40, (7, 8, 9)), (40, (7,)))
    part, whole, other = token_ids(trace, vocab_size=VOCABULARY, seed=1)
    assert whole[:20] == part
    assert common(part, other) == 16


def test_thirty_thousand_prompts_differ_in_their_first_token() -> None:
    prompts = token_ids(trace_of(*[(2, ())] * 30_000, block_size=None), vocab_size=VOCABULARY, seed=0)
    assert len({prompt[0] for prompt in prompts}) == 30_000


def test_more_prompts_than_tokens_differ_within_two_tokens() -> None:
    prompts = token_ids(trace_of(*[(4, ())] * 500, block_size=None), vocab_size=RESERVED + 30, seed=0)
    assert len({tuple(prompt[:2]) for prompt in prompts}) == 500


def test_content_is_spread_over_the_vocabulary() -> None:
    (prompt,) = token_ids(trace_of((200_000, ())), vocab_size=1100, first_id=1000, seed=3)
    counts = [prompt.count(token) for token in range(1000, 1100)]
    # each count is binomial with mean 2000 and standard deviation 44.5: all 100 within 5 of them (p = 6e-5)
    assert max(abs(count - 2000) for count in counts) < 5 * 44.5


def test_another_seed_gives_other_prompts() -> None:
    trace = trace_of((64, (1, 2)), (64, (1, 3)))
    first, second = (token_ids(trace, vocab_size=VOCABULARY, seed=seed)[0] for seed in (1, 2))
    assert sum(a == b for a, b in zip(first, second, strict=True)) <= 1


def test_the_hash_seed_of_python_does_not_matter_and_the_content_is_pinned() -> None:
    script = (
        "import json; from workloads.trace import Request, Trace; from workloads.prompts import token_ids;"
        "t = Trace(name='t', block_size=16, requests=tuple(Request(request_id=i, arrival=0.0, input_tokens=50, output_tokens=1,"
        " blocks=(0, 1 + i % 3)) for i in range(9))); print(json.dumps(token_ids(t, vocab_size=32000, seed=7)))"
    )
    out = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        out.append(subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True).stdout)
    assert out[0] == out[1]
    assert hashlib.sha256(json.dumps(json.loads(out[0])).encode()).hexdigest()[:16] == "ae95a69f39de480c"


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size must be at least 18"):
        token_ids(trace_of((4, ())), vocab_size=17, seed=0)
