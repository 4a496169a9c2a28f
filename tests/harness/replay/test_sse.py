"""The stream parser: laws over any split of the bytes, and what each form of stream means."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.replay import sse
from harness.replay.protocols.chat import Chat
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.wire_protocol import WireProtocol
from harness.replay.sse import Read, Stream, events


def parse(reads: Iterable[Read], protocol: WireProtocol = Completions()) -> Stream:  # noqa: B008 - frozen
    return sse.parse(reads, protocol)


def event(choice: dict[str, Any] | None = None, usage: int | None = None, end: bytes = b"\n", **fields: object) -> bytes:
    body: dict[str, Any] = {"id": "c", "choices": [] if choice is None else [{"index": 0, **choice}], **fields}
    if usage is not None:
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": usage, "total_tokens": 7 + usage}
    return b"data: " + orjson.dumps(body) + end + end


DONE = b"data: [DONE]\n\n"


def stream(*, counted: bool, tokens: int = 5, end: bytes = b"\n") -> list[bytes]:
    chunks = [
        event({"text": f" {i}", "finish_reason": "length" if i == tokens else None}, i if counted else None, end)
        for i in range(1, tokens + 1)
    ]
    return [*chunks, event(usage=tokens, end=end), b"data: [DONE]" + end + end]


def one_by_one(pieces: list[bytes]) -> list[tuple[float, bytes]]:
    return [(float(i), piece) for i, piece in enumerate(pieces)]


def check_split(whole: list[bytes], payloads: list[bytes], cuts: list[int]) -> None:
    """Cut the events' bytes at these offsets: the same events come out, each at the read that held its last byte."""
    body = b"".join(whole)
    bounds = [0, *sorted(cuts), len(body)]
    found = list(events([(float(i), body[a:b]) for i, (a, b) in enumerate(pairwise(bounds))]))
    assert [data for _, data in found] == payloads
    last_bytes = [sum(map(len, whole[: i + 1])) - 1 for i in range(len(whole))]
    assert [time for time, _ in found] == [float(next(i for i, b in enumerate(bounds[1:]) if b > byte)) for byte in last_bytes]


@given(
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=8),
    comment=st.booleans(),
    cuts=st.lists(st.floats(min_value=0, max_value=1), max_size=20),
)
def test_any_split_of_the_bytes_gives_the_same_events_at_the_right_times(
    end: bytes, texts: list[str], comment: bool, cuts: list[float]
) -> None:
    payloads = [orjson.dumps({"choices": [{"text": text}]}) for text in texts]
    prefix = b": ping" + end + b"event: x" + end if comment else b""
    whole = [prefix + b"data: " + payload + end + end for payload in payloads]
    check_split(whole, payloads, [int(cut * sum(map(len, whole))) for cut in cuts])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_single_cut_and_one_byte_at_a_time(end: bytes) -> None:
    payloads = [b"1", b"22", b"333"]
    whole = [b"data: " + payload + end + end for payload in payloads]
    length = sum(map(len, whole))
    for cut in range(length + 1):
        check_split(whole, payloads, [cut])
    check_split(whole, payloads, list(range(1, length)))


@given(st.binary(max_size=300))
def test_foreign_bytes_never_raise(body: bytes) -> None:
    parse([(0.0, body)])
    parse([(0.0, b"data: " + body + b"\n\n")])


KEYS = ["choices", "text", "delta", "content", "token_ids", "usage", "completion_tokens", "prompt_tokens_details", "cached_tokens", "error"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    )
)
def test_foreign_json_never_raises(value: object) -> None:
    for body in ({"choices": value}, {"choices": [value]}, {"usage": value}, {"choices": [{"text": value, "token_ids": value}]}, value):
        parse([(0.0, b"data: " + orjson.dumps(body) + b"\n\n")])


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_event_per_token(counted: bool, end: bytes) -> None:
    result = parse(one_by_one(stream(counted=counted, end=end)))
    assert result.token_times == (0, 1, 2, 3, 4)
    assert (result.first_content, result.last_content, result.contents) == (0, 4, 5)
    assert (result.input_tokens, result.output_tokens, result.cached_tokens) == (7, 5, None)
    assert (result.finish_reason, result.done, result.error) == ("length", True, None)


def test_tokens_of_one_chunk_share_its_time() -> None:
    chunks = [event({"text": "a"}, 1), event({"text": "bcd"}, 4), event({"text": "e", "finish_reason": "length"}, 5), event(usage=5), DONE]
    assert parse(one_by_one(chunks)).token_times == (0, 1, 1, 1, 2)


def test_a_role_or_an_end_that_tells_no_number_is_no_token_beside_events_that_do() -> None:
    """As SGLang's chat."""
    role, end = event({"delta": {"role": "assistant", "content": ""}}), event({"delta": {"content": None}, "finish_reason": "length"})
    words = [event({"delta": {"content": "a b"}}, 2), event({"delta": {"content": "c"}}, 3)]
    result = parse(one_by_one([role, *words, end, event(usage=3), DONE]), Chat())
    assert result.token_times == (1, 1, 2)
    assert (result.first_content, result.first_output, result.last_content, result.finish_reason) == (1, 1, 2, "length")


def test_token_ids_count_too() -> None:
    chunks = [event({"text": "a", "token_ids": [3]}), event({"text": "bc", "token_ids": [4, 5]}), event(usage=3), DONE]
    assert parse(one_by_one(chunks)).token_times == (0, 1, 1)


def test_merged_chunks_that_do_not_say_their_counts_leave_token_times_unknown() -> None:
    result = parse(one_by_one([event({"text": "a"}), event({"text": "bcd"}), event(usage=4), DONE]))
    assert result.token_times is None
    assert (result.first_content, result.last_content, result.output_tokens) == (0, 1, 4)


@pytest.mark.parametrize("counted", [True, False])
def test_a_token_without_text_is_a_token(counted: bool) -> None:
    chunks = [event({"text": text}, i + 1 if counted else None) for i, text in enumerate(["", "b", "", "d"])]
    result = parse(one_by_one([*chunks, event(usage=4), DONE]))
    assert result.token_times == (0, 1, 2, 3)
    assert (result.first_content, result.last_content) == (0, 3)


@pytest.mark.parametrize("counted", [True, False])
def test_empty_role_only_and_usage_only_events_are_no_content(counted: bool) -> None:
    first = [
        event({"delta": {"role": "assistant", "content": ""}}, 0 if counted else None),
        event({"delta": {"role": "assistant"}}, 0 if counted else None),
        event({"text": ""}, 0 if counted else None),
    ]
    words = [event({"text": "a"}, 1 if counted else None), event({"text": "b"}, 2 if counted else None)]
    result = parse(one_by_one([*first, *words, event(usage=2), DONE]))
    assert (result.first_content, result.last_content, result.contents) == (3, 4, 2)
    assert result.token_times == (3, 4)


def test_no_usage_leaves_counts_and_token_times_unknown() -> None:
    result = parse(one_by_one([event({"text": "a"}), event({"text": "b", "finish_reason": "length"}), DONE]))
    assert (result.input_tokens, result.output_tokens, result.token_times) == (None, None, None)
    assert (result.first_content, result.last_content) == (0, 1)


def test_cached_tokens() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    assert (
        parse(one_by_one([event({"text": "a"}), event(usage=1), b"data: " + orjson.dumps({"usage": usage}) + b"\n\n"])).cached_tokens == 8
    )


@pytest.mark.parametrize("error", [{"message": "no room in the KV pool", "code": 400}, "no room in the KV pool"])
def test_an_error_object_is_an_error_though_a_usage_and_done_follow(error: object) -> None:
    result = parse(one_by_one([event({"text": "a"}), b"data: " + orjson.dumps({"error": error}) + b"\n\n", event(usage=1), DONE]))
    assert result.error == "the server sent an error: no room in the KV pool"
    assert result.done


def test_an_event_that_is_not_json_is_an_error_that_quotes_it() -> None:
    assert parse([(0.0, b"data: {oops\n\n")]).error == "an event is no completion chunk: {oops"


@pytest.mark.parametrize("kept", range(6))
def test_a_cut_stream_shows_what_came_and_is_not_done(kept: int) -> None:
    whole = stream(counted=True)
    result = parse([*one_by_one(whole[:kept]), (99.0, whole[kept][:-1])])  # the last event lacks its blank line
    assert not result.done
    assert result.contents == min(kept, 5)
    assert result.last_content == (None if kept == 0 else min(kept, 5) - 1)


def test_nothing_at_all() -> None:
    result = parse([])
    assert (result.first_content, result.token_times, result.done, result.error) == (None, None, False, None)


@pytest.mark.parametrize(("ended", "times"), [("length", None), ("stop", (0, 1, 2, 3))])
def test_an_end_without_text_is_the_token_that_ended_an_answer_or_none(ended: str, times: tuple[float, ...] | None) -> None:
    """Where no event tells a number: after 'length' a token may have come with another, though the events are as many as the tokens."""
    words = [event({"text": word}) for word in ("a", "b", "c")]
    result = parse(one_by_one([*words, event({"text": "", "finish_reason": ended}), event(usage=4), DONE]))
    assert result.token_times == times


def test_tokens_that_only_the_usage_counts_came_with_the_end() -> None:
    words = [event({"delta": {"content": word}}, timings={"predicted_n": i}) for i, word in enumerate("abc", start=1)]
    end = event({"delta": {}, "finish_reason": "stop"})
    result = parse(one_by_one([*words, end, event(usage=5), DONE]), Chat())
    assert result.token_times == (0, 1, 2, 3, 3) and result.last_content == 3
