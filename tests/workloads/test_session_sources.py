"""Sessions from files and from laws: who waits for whom and how long, how prompts grow, and what is said of a bad line."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from workloads.datasets import Dataset
from workloads.lengths import Fixed, Lognormal
from workloads.prompts import token_ids
from workloads.rows import Row
from workloads.sessions.files import AgentSessions, ShareGptSessions, Spans
from workloads.sessions.laws import Sessions
from workloads.sources import Mooncake, Source
from workloads.trace import Trace, TraceError


def lines(path: Path, *objects: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return path


def waits(rows: list[Row]) -> list[tuple[int | None, tuple[int, ...], float]]:
    return [(row.session, row.after, row.delay) for row in rows]


def traced(source: Source, **settings: Any) -> Trace:
    return Dataset(name="sessions", source=source, **settings).trace(rate=None, num_requests=None, seed=0)


def shared(trace: Trace) -> None:
    """Each turn's prompt begins with the whole blocks of the one that it follows, in blocks and in tokens; nothing else is shared."""
    assert trace.block_size is not None
    prompts = dict(zip((r.request_id for r in trace), token_ids(trace, vocab_size=5000, first_id=3, seed=1), strict=True))
    by_id = {r.request_id: r for r in trace}
    for request in trace:
        for other in request.after[:1]:
            whole = min(by_id[other].input_tokens, request.input_tokens) // trace.block_size
            assert request.blocks[:whole] == by_id[other].blocks[:whole]
            assert list(prompts[request.request_id][: whole * trace.block_size]) == list(prompts[other][: whole * trace.block_size])
        strangers = [r for r in trace if r.session != request.session]
        assert not {*request.blocks} & {block for other in strangers for block in other.blocks}


# --- Mooncake


def mooncake(path: Path, *objects: Any) -> Mooncake:
    return Mooncake(path=lines(path, *objects), block_size=4)


def test_a_mooncake_line_may_have_a_delay_in_the_place_of_its_timestamp(tmp_path: Path) -> None:
    def line(session: str, **more: Any) -> dict[str, Any]:
        return {"session_id": session, "input_length": 8, "output_length": 4, "hash_ids": [1, 2], **more}

    source = mooncake(tmp_path / "m.jsonl", line("a", timestamp=1000), line("b", timestamp=1500), line("a", delay=250), line("b", delay=0))
    assert waits(list(source.rows())) == [(0, (), 0.0), (1, (), 0.0), (0, (1,), 0.25), (1, (2,), 0.0)]
    trace = traced(source)
    assert [(r.arrival, r.after) for r in trace] == [(0.0, ()), (0.5, ()), (0.5, (1,)), (0.5, (2,))]


def test_a_mooncake_file_without_sessions_is_what_it_was(tmp_path: Path) -> None:
    rows = list(mooncake(tmp_path / "m.jsonl", *({"timestamp": t, "input_length": 8, "output_length": 4} for t in (0, 10))).rows())
    assert [(row.request_id, row.session, row.after) for row in rows] == [(None, None, ())] * 2


# --- ShareGPT


@pytest.fixture
def sharegpt(tmp_path: Path) -> Callable[..., ShareGptSessions]:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def source(*conversations: list[tuple[str, int]], **settings: Any) -> ShareGptSessions:
        told = [{"conversations": [{"from": who, "value": "w " * words} for who, words in turns]} for turns in conversations]
        (tmp_path / "s.json").write_text(json.dumps(told))
        return ShareGptSessions(path=tmp_path / "s.json", tokenizer=tmp_path / "tokenizer.json", block_size=4, **settings)

    return source


def test_each_question_follows_all_that_was_said(sharegpt: Callable[..., ShareGptSessions]) -> None:
    one = [("human", 10), ("gpt", 5), ("human", 3), ("gpt", 2), ("human", 7), ("gpt", 9)]
    source = sharegpt(one, [("human", 4), ("gpt", 6)], think=1.5)
    trace = traced(source, arrivals="constant", rate=2.0)
    assert [(r.input_tokens, r.output_tokens, r.after, r.delay, r.session) for r in trace] == [
        (10, 5, (), 0.0, 0),
        (18, 2, (0,), 1.5, 0),
        (27, 9, (1,), 1.5, 0),
        (4, 6, (), 0.0, 1),
    ]
    shared(trace)


def test_a_turn_that_is_left_out_takes_those_behind_it_along(sharegpt: Callable[..., ShareGptSessions]) -> None:
    source = sharegpt(
        [("human", 3), ("gpt", 2), ("human", 4), ("gpt", 0), ("human", 5), ("gpt", 6)], [("system", 3)], [("human", 1), ("gpt", 1)]
    )
    trace = traced(source, arrivals="constant", rate=2.0, empty="drop")
    assert [(r.session, r.input_tokens) for r in trace] == [(0, 3), (2, 1)] and "1 turns behind one left out dropped" in trace.name
    long = Dataset(name="s", source=source, arrivals="constant", rate=1.0, empty="drop", too_long="drop")
    assert [r.session for r in long.trace(rate=None, num_requests=None, seed=0, max_model_len=4)] == [2]


# --- agents


def agents(path: Path, *objects: Any) -> AgentSessions:
    return AgentSessions(path=lines(path, *objects), block_size=4)


def calls(*sizes: tuple[int, int, int]) -> list[dict[str, int]]:
    return [{"input_toks": i, "output_toks": o, "tool_duration_ns": t} for i, o, t in sizes]


def test_an_agents_next_call_waits_for_its_tool(tmp_path: Path) -> None:
    source = agents(
        tmp_path / "a.jsonl",
        {"session_id": "x", "arrival_time_ns": 5 * 10**9, "sub_requests": calls((9, 3, 2 * 10**9), (14, 2, 5 * 10**8), (10, 1, 0))},
        {"session_id": "y", "arrival_time_ns": 6 * 10**9, "input_toks": 7, "output_toks": 8},
    )
    trace = traced(source)
    assert [(r.arrival, r.input_tokens, r.after, r.delay, r.session) for r in trace] == [
        (0.0, 9, (), 0.0, 0),
        (0.0, 14, (0,), 2.0, 0),
        (0.0, 10, (1,), 0.5, 0),
        (1.0, 7, (), 0.0, 1),
    ]
    shared(trace)


# --- spans


def span(
    start: float, end: float, input_tokens: int, *, trace: str = "t", conversation: str | None = None, usage: bool = True
) -> dict[str, Any]:
    attributes: list[dict[str, Any]] = [{"key": "gen_ai.request.model", "value": {"stringValue": "m"}}]
    if usage:
        attributes += [
            {"key": f"gen_ai.usage.{of}_tokens", "value": {"intValue": str(n)}} for of, n in (("input", input_tokens), ("output", 5))
        ]
    if conversation:
        attributes.append({"key": "gen_ai.conversation.id", "value": {"stringValue": conversation}})
    times = {f"{name}TimeUnixNano": str(1_764_400_000 * 10**9 + round(t * 1e9)) for name, t in (("start", start), ("end", end))}
    return {"traceId": trace, "spanId": "s", "attributes": attributes, **times}


def exported(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def test_a_call_waits_for_those_that_had_ended_when_it_began(tmp_path: Path) -> None:
    """A plan, two branches side by side, a turn that joins them; calls of another trace, and spans that are no calls of a model."""
    join, plan = span(4.0, 5.0, 30), span(0.0, 1.0, 9)
    path = lines(
        tmp_path / "o.jsonl",
        exported(join, span(1.5, 2.0, 14), span(0.0, 5.0, 0, usage=False)),
        exported(plan, span(1.25, 3.0, 12), span(0.5, 0.75, 8, trace="u")),
    )
    trace = traced(Spans(path=path, block_size=4))
    assert [(r.arrival, r.input_tokens, r.session, r.after, r.delay) for r in trace] == [
        (0.0, 9, 0, (), 0.0),
        (0.5, 8, 1, (), 0.0),
        (1.25, 12, 0, (0,), 0.25),
        (1.5, 14, 0, (0,), 0.5),
        (4.0, 30, 0, (2, 3), 1.0),
    ]
    shared(trace)


def test_a_conversation_is_a_session_over_several_traces(tmp_path: Path) -> None:
    path = lines(tmp_path / "o.jsonl", exported(span(0.0, 1.0, 9, conversation="c"), span(3.0, 4.0, 20, trace="u", conversation="c")))
    assert waits(list(Spans(path=path).rows())) == [(0, (), 0.0), (0, (0,), 2.0)]


# --- laws


def laws(**changes: Any) -> Sessions:
    settings: dict[str, Any] = {
        "turns": Lognormal(mean=4, cv=0.5, most=12),
        "message": Lognormal(mean=60, cv=0.8, most=400),
        "output": Fixed(tokens=20),
        "think": 2.0,
        "most": 4096,
        "system_tokens": 32,
    }
    return Sessions(name="sessions", **{**settings, **changes})


def test_sessions_from_laws_have_the_turns_the_thinking_and_the_growth_that_they_state() -> None:
    trace = laws().trace(rate=2.0, num_requests=4000, seed=0)
    by_session: dict[int | None, list[Any]] = {}
    for request in trace:
        by_session.setdefault(request.session, []).append(request)
    turns = [len(of) for of in by_session.values()]
    thinks = [r.delay for r in trace if r.after]
    assert np.mean(turns) == pytest.approx(4, rel=0.05) and np.mean(thinks) == pytest.approx(2.0, rel=0.05)
    starts = sorted(of[0].arrival for of in by_session.values())
    assert len(starts) / starts[-1] == pytest.approx(2.0 / np.mean(turns), rel=0.1)
    for of in by_session.values():
        assert of[0].after == () and of[0].blocks[:2] == (0, 1), "all share the system prompt"
        for one, other in pairwise(of):
            assert other.after == (one.request_id,) and other.input_tokens > one.input_tokens + one.output_tokens
            assert other.blocks[: one.input_tokens // 16] == one.blocks[: one.input_tokens // 16]


def test_one_seed_gives_the_same_sessions_at_every_rate_and_the_first_of_them() -> None:
    def told(rate: float, n: int) -> list[Any]:
        trace = laws().trace(rate=rate, num_requests=n, seed=3)
        return [(r.input_tokens, r.output_tokens, r.after, r.delay, r.session) for r in sorted(trace, key=lambda r: r.request_id)]

    assert told(1.0, 200) == told(5.0, 200) and told(1.0, 200)[:50] == told(1.0, 50) and laws().trace(rate=1.0, num_requests=9, seed=4)
    assert laws().trace(rate=1.0, num_requests=50, seed=3).sha256 == laws().trace(rate=1.0, num_requests=50, seed=3).sha256


def test_a_session_ends_before_a_turn_that_would_be_too_long() -> None:
    trace = laws(turns=Fixed(tokens=50), message=Fixed(tokens=100)).trace(rate=1.0, num_requests=100, seed=0, max_model_len=500)
    assert max(r.input_tokens + r.output_tokens for r in trace) <= 500 and len({r.session for r in trace}) > 20


# --- bad input


def wrong(folder: Path) -> dict[str, tuple[Callable[[], object], str]]:
    """name -> (what is read, what the line says)."""
    turn, plain = {"session_id": "a", "input_length": 8, "output_length": 4}, {"input_length": 8, "output_length": 4}
    at_0 = turn | {"timestamp": 0}

    def read(make: Callable[..., Source], *objects: Any) -> Callable[[], object]:
        return lambda: list(make(folder / "f.jsonl", *objects).rows())

    def spans(path: Path, *objects: Any) -> Source:
        return Spans(path=lines(path, *objects))

    return {
        "first delayed": (read(mooncake, turn | {"delay": 5}), ":1: session a begins with a delay"),
        "negative": (read(mooncake, at_0, turn | {"delay": -5}), ":2: delay must be >= 0 ms"),
        "no session": (read(mooncake, plain | {"delay": 1}), ":1: a delay without a session_id"),
        "some": (read(mooncake, at_0, plain | {"timestamp": 1}), ":2: either every line of a file has a session_id"),
        "no calls": (read(agents, {"arrival_time_ns": 0, "sub_requests": []}), ":1: sub_requests must be a list"),
        "no time": (read(agents, {"sub_requests": calls((1, 1, 0))}), ":1: arrival_time_ns must be a whole number"),
        "tool": (read(agents, {"arrival_time_ns": 0, "sub_requests": calls((1, 1, -5))}), ":1: tool_duration_ns must be >= 0"),
        "no otlp": (read(spans, {"spans": []}), ":1: it has no resourceSpans"),
        "not otlp": (read(spans, {"resourceSpans": [{"scopeSpans": [{"spans": [5]}]}]}), ":1: not OTLP/JSON"),
        "no usage": (read(spans, exported(span(0, 1, 1, usage=False))), "no span has gen_ai.usage.input_tokens"),
        "backwards": (read(spans, exported(span(2, 1, 1))), ":1: span s ends before it begins"),
        "think": (lambda: laws(think=-1.0), "workload.think must be >= 0 s"),
        "system": (lambda: laws(system_tokens=7), "system_tokens must be a multiple of block_size 16"),
        "too long": (lambda: laws().trace(rate=1.0, num_requests=500, seed=0, max_model_len=64), "passes 64; bound its laws"),
        "no rate": (lambda: laws().trace(rate=None, num_requests=5, seed=0), "give it a rate"),
    }


@pytest.mark.parametrize("name", wrong(Path()))
def test_what_cannot_be_a_session_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    read, said = wrong(tmp_path)[name]
    with pytest.raises((TraceError, ValueError)) as raised:
        read()
    assert said in str(raised.value) and "\n" not in str(raised.value)
