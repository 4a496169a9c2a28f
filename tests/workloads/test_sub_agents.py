"""Sessions with sub-agents: how many there are, who waits for whom, what prompts repeat; and what is said of bad laws."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from workloads.lengths import Fixed, Lengths, Lognormal
from workloads.prompts import token_ids
from workloads.release import Turns
from workloads.sessions.branches import SubAgents
from workloads.trace import Request, Trace, TraceError

SYSTEM, AGENT = (0, 1, 2, 3), (4, 5)  # the blocks that the two kinds of prompts begin with
FEW = Lognormal(mean=3, cv=0.5, most=8)


def laws(**changes: Any) -> SubAgents:
    settings: dict[str, Any] = {
        "turns": FEW, "branching": 0.5, "branches": FEW, "calls": FEW, "message": Lognormal(mean=100, cv=1.0, most=1000),
        "output": Lognormal(mean=40, cv=0.7, most=400), "tool": 1.5, "most": 10**6, "system_tokens": 64, "agent_tokens": 32,
    }  # fmt: skip
    return SubAgents(name="subagents", **(settings | changes))


def by_id(trace: Trace) -> dict[int, Request]:
    return {r.request_id: r for r in trace}


def is_turn(request: Request) -> bool:
    return request.blocks[:4] == SYSTEM


def mean(law: Lengths) -> float:
    return float(law.sample(np.random.default_rng(1), 100_000).mean())


def test_the_laws_are_what_comes_out() -> None:
    trace = laws().trace(rate=5.0, num_requests=20_000, seed=0)
    requests = by_id(trace)
    turns: Counter[int | None] = Counter()  # of each session
    branches: Counter[int] = Counter()  # of each turn that has some
    calls: list[int] = []  # of each sub-agent
    followed = 0  # turns that another follows
    for request in trace:
        if is_turn(request):
            turns[request.session] += 1
            followed += bool(request.after)  # each turn but a session's first follows one
        elif is_turn(requests[request.after[0]]):
            branches[request.after[0]] += 1
            calls.append(1)
        else:
            calls[-1] += 1
    assert np.mean([*turns.values()]) == pytest.approx(mean(FEW), rel=0.05)
    assert np.mean([*branches.values()]) == pytest.approx(mean(FEW), rel=0.05)
    assert np.mean(calls) == pytest.approx(mean(FEW), rel=0.05)
    assert len(branches) / followed == pytest.approx(0.5, rel=0.1)
    delays = [r.delay for r in trace if r.after and (is_turn(r) or not is_turn(requests[r.after[0]]))]
    assert np.mean(delays) == pytest.approx(1.5, rel=0.05)
    starts = {r.session: r.arrival for r in trace}
    assert len(trace) / max(starts.values()) == pytest.approx(5.0, rel=0.1)


def test_sub_agents_begin_together_and_the_next_turn_joins_them_and_reads_what_they_said() -> None:
    trace = laws(message=Fixed(tokens=10), output=Fixed(tokens=7)).trace(rate=5.0, num_requests=2_000, seed=1)
    requests = by_id(trace)
    tails: dict[int, set[int]] = defaultdict(set)  # turn -> the last calls of its sub-agents so far
    began: dict[int, int] = {}  # call -> the turn that sent its sub-agent off
    for request in sorted(trace, key=lambda r: r.request_id):
        if is_turn(request) and request.after:
            before = began.get(request.after[0], request.after[0])
            assert set(request.after) == tails.get(before, {before})
            heard = 7 * len(tails.get(before, ()))
            assert request.input_tokens == requests[before].input_tokens + 7 + heard + 10
            whole = requests[before].input_tokens // 16
            assert request.blocks[:whole] == requests[before].blocks[:whole]
        elif not is_turn(request):
            (other,) = request.after
            first = is_turn(requests[other])
            began[request.request_id] = other if first else began[other]
            tails[began[request.request_id]] -= {other}
            tails[began[request.request_id]] |= {request.request_id}
            assert request.input_tokens == (32 + 10 if first else requests[other].input_tokens + 17)
            whole = 2 if first else requests[other].input_tokens // 16
            assert request.blocks[:whole] == (AGENT if first else requests[other].blocks[:whole])
            assert (request.delay == 0.0) == first
    assert any(len(tail) > 1 for tail in tails.values())
    assert all(requests[other].session == r.session for r in trace for other in r.after)


def test_the_branches_of_a_turn_are_due_at_its_end_and_the_join_at_the_last_end() -> None:
    trace = laws(turns=Fixed(tokens=2), branching=1.0, branches=Fixed(tokens=3), calls=Fixed(tokens=1)).trace(
        rate=1.0, num_requests=5, seed=0
    )
    release = Turns(trace)
    ((start, place),) = release.first
    assert place == 0
    assert list(release.ended(0, start + 1)) == [(start + 1, 1), (start + 1, 2), (start + 1, 3)]
    assert [*release.ended(1, start + 9), *release.ended(3, start + 2)] == []
    assert list(release.ended(2, start + 4)) == [(start + 9 + trace.requests[4].delay, 4)]


def test_prompts_share_what_their_blocks_say_and_no_more() -> None:
    trace = laws().trace(rate=5.0, num_requests=60, seed=2)
    prompts = token_ids(trace, vocab_size=5000, first_id=3, seed=1)
    for one, of_one in zip(trace, prompts, strict=True):
        for other, of_other in zip(trace, prompts, strict=True):
            if one is not other:
                alike = [a == b for a, b in zip(one.blocks, other.blocks, strict=False)]
                blocks = alike.index(False) if False in alike else len(alike)
                tokens = min(blocks * 16, len(of_one), len(of_other))
                assert of_one[:tokens] == of_other[:tokens] and of_one[tokens : tokens + 1] != of_other[tokens : tokens + 1]


def test_one_seed_gives_the_same_requests_at_every_rate_and_the_first_of_them() -> None:
    def told(rate: float, n: int) -> list[Any]:
        trace = laws().trace(rate=rate, num_requests=n, seed=3)
        return [(r.input_tokens, r.output_tokens, r.after, r.delay, r.session) for _, r in sorted(by_id(trace).items())]

    assert told(1.0, 3000) == told(5.0, 3000) and told(1.0, 3000)[:50] == told(1.0, 50)
    assert laws().trace(rate=1.0, num_requests=50, seed=4).sha256 != laws().trace(rate=1.0, num_requests=50, seed=3).sha256


def test_no_request_passes_the_limit() -> None:
    trace = laws(most=1500).trace(rate=5.0, num_requests=5000, seed=0, max_model_len=1400)
    assert 1200 < max(r.input_tokens + r.output_tokens for r in trace) <= 1400


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"branching": 1.5}, r"workload\.branching must be between 0 and 1, got 1\.5"),
        ({"tool": -1.0}, r"workload\.tool must be >= 0 s"),
        ({"agent_tokens": 30}, "must be a multiple of block_size 16, got 30"),
        ({"most": 120, "message": Fixed(tokens=200)}, r"a first call of 264 \+ \d+ tokens passes 120; bound its laws"),
    ],
)
def test_bad_laws_are_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TraceError), match=said):
        laws(**changes).trace(rate=1.0, num_requests=5, seed=0)
