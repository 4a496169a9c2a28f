"""Bytes of a streamed answer -> what the server said, and when. Pure: it runs after the replay, never during it.

The input is one response body as it was read: (time, bytes) pairs in order, times in seconds on any clock. The output keeps that clock.

How tokens are counted. A chunk says how many tokens it brings in one of two ways: `token_ids`, or a running `usage` (which the client
asks for with `stream_options.continuous_usage_stats`; vLLM and SGLang both send it). That is exact where several tokens come in one
chunk (vLLM merges them when its API server falls behind) and where a token has no text yet (half a UTF-8 character). A server that says
neither is believed to send one token a chunk only when the number of chunks equals its final usage; otherwise its token times are
unknown (None). An event counts as content when it brings a token or some text, of the reasoning or of the answer: role-only, empty and
usage-only events do not. What an event means is for its protocol to say (protocols/).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from harness.replay.protocols.wire_protocol import TokenCounts, WireProtocol

EXCERPT = 200  # characters of a foreign message quoted in an error

Read = tuple[float, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One streamed answer. Times are those of the reads in which an event's last byte came."""

    # one per output token, ascending; tokens of one chunk share its time; None: the stream does not show them
    token_times: tuple[float, ...] | None
    first_content: float | None  # time of the first event that brought a token or text, of whatever kind
    first_output: float | None  # time of the first one of the answer, after all reasoning; None: there was none, or it is not told apart
    last_content: float | None  # time of the last such event
    contents: int  # number of such events
    input_tokens: int | None  # the server's usage figure
    output_tokens: int | None  # the server's usage figure
    cached_tokens: int | None  # the server's usage figure
    finish_reason: str | None  # as sent
    done: bool  # whether the server said that this was all
    error: str | None  # what the server, or the stream's form, got wrong


# An event that brings output: its time, how many tokens (None: it does not say), whether it has text, whether that is of the reasoning.
_Chunk = tuple[float, int | None, bool, bool]


def events(reads: Iterable[Read]) -> Iterator[Read]:
    """(time, data) of each complete server-sent event, in order; comments and other fields are dropped.

    An event's time is that of the read which held the last byte of the blank line that ends it, however the bytes were split. Lines may
    end in LF, CRLF or CR; a last event without its blank line is incomplete and is left out, as the SSE standard asks.
    """
    pieces = list(reads)
    ends: list[int] = []
    total = 0
    for _, piece in pieces:
        total += len(piece)
        ends.append(total)
    data: list[bytes] = []
    offset = read = 0
    for line in b"".join(piece for _, piece in pieces).splitlines(keepends=True):
        offset += len(line)
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line in (b"\n", b"\r\n", b"\r") and data:
            while ends[read] < offset:
                read += 1
            yield pieces[read][0], b"\n".join(data)
            data.clear()


def parse(reads: Iterable[Read], protocol: WireProtocol) -> Stream:
    """Everything that one response body says in this protocol. Never raises on foreign bytes: what is wrong with them is in `error`."""
    chunks: list[_Chunk] = []
    usage: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    error: str | None = None
    done = False
    produced = 0  # tokens so far, as far as the server says
    untold = False  # whether a chunk does not say how many it brings
    for time, data in events(reads):
        if data == b"[DONE]":
            done = True
            continue
        try:
            chunk, text, reasoning, tokens, total, running, reason, last, wrong = protocol.said(orjson.loads(data))
            if wrong:
                error = error or f"the server sent an error: {_message(wrong)}"
            usage = running or usage
            done = done or last
            finish_reason = reason or finish_reason
            if chunk:
                if tokens is not None:
                    produced += tokens
                elif total is not None:
                    tokens, produced = total - produced, total
                else:
                    untold = True
                chunks.append((time, tokens, text or reasoning, reasoning and not text))
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            error = error or f"an event is no completion chunk: {data[:EXCERPT].decode(errors='replace')}"
    try:
        counts = protocol.usage(usage) if usage else TokenCounts()
    except (ValueError, TypeError, AttributeError):
        counts = TokenCounts()
        error = error or f"the usage is not what it should be: {str(usage)[:EXCERPT]}"
    if untold and any(tokens is not None for _, tokens, _, _ in chunks):  # then one that tells no number and has no text brings none
        chunks = [(time, 0 if tokens is None and not text else tokens, text, reasoning) for time, tokens, text, reasoning in chunks]
        chunks = _with_the_end(chunks, counts.output_tokens)
    total, counted = counts.output_tokens, not untold or all(tokens is not None for _, tokens, _, _ in chunks)
    times = _times_told(chunks, total) if counted else _times_believed(chunks, total, finish_reason)
    contents = list(times) if times and not counted else [time for time, tokens, text, _ in chunks if tokens or text]
    return Stream(
        token_times=times,
        first_content=contents[0] if contents else None,
        first_output=_first_output(chunks, contents) if protocol.tells_reasoning else None,
        last_content=contents[-1] if contents else None,
        contents=len(contents),
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        cached_tokens=counts.cached_tokens,
        finish_reason=finish_reason,
        done=done,
        error=error,
    )


def _first_output(chunks: list[_Chunk], contents: list[float]) -> float | None:
    """When the answer began: with the first content where there is no reasoning, else with the first text that is none."""
    if not any(reasoning for _, _, _, reasoning in chunks):
        return contents[0] if contents else None
    return next((time for time, _, text, reasoning in chunks if text and not reasoning), None)


def _times_told(chunks: list[_Chunk], total: int | None) -> tuple[float, ...] | None:
    """One time per output token of chunks that say how many they bring; None when these are not the server's total."""
    times: list[float] = []
    for time, tokens, _, _ in chunks:
        if tokens == 1:  # nearly all; a list of one for each would take twice as long
            times.append(time)
        else:
            times += [time] * (tokens or 0)
    return tuple(times) if times and len(times) == total else None


def _times_believed(chunks: list[_Chunk], total: int | None, finish_reason: str | None) -> tuple[float, ...] | None:
    """One time per output token, a token a chunk, with or without those whose text is empty; None when that is not the server's total."""
    candidates = [[time for time, _, text, _ in chunks if text]]
    if not (finish_reason == "length" and _only_the_end_is_empty(chunks)):
        candidates.append([time for time, _, _, _ in chunks])
    return next((tuple(times) for times in candidates if times and len(times) == total), None)


def _with_the_end(chunks: list[_Chunk], total: int | None) -> list[_Chunk]:
    """The chunks; tokens of the usage that none of them told came with the one that only ends the answer (llama.cpp: spaces, the end)."""
    *before, (time, tokens, text, reasoning) = chunks
    told = sum(count or 0 for _, count, _, _ in chunks)
    if tokens == 0 and not text and total is not None and total > told:
        return [*before, (time, total - told, text, reasoning)]
    return chunks


def _only_the_end_is_empty(chunks: list[_Chunk]) -> bool:
    """Then it says that all is said, and is no token: where the numbers fit all the same, another token came in the event after it."""
    return bool(chunks) and not chunks[-1][2] and all(text for _, _, text, _ in chunks[:-1])


def _message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message or error)[:EXCERPT].split())
