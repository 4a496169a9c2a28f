"""Bytes of a streamed completion -> what the server said, and when. Pure: it runs after the replay, never during it.

The input is one response body as it was read: (time, bytes) pairs in order, times in seconds on any clock. The output keeps that clock.

How tokens are counted. A chunk says how many tokens it brings in one of two ways: `token_ids`, or a running `usage` (which the client
asks for with `stream_options.continuous_usage_stats`; vLLM and SGLang both send it). That is exact where several tokens come in one
chunk (vLLM merges them when its API server falls behind) and where a token has no text yet (half a UTF-8 character). A server that says
neither is believed to send one token a chunk only when the number of chunks equals its final usage; otherwise its token times are
unknown (None). An event counts as content when it brings a token or some text: role-only, empty and usage-only events do not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

EXCERPT = 200  # characters of a foreign message quoted in an error

Read = tuple[float, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One streamed completion. Times are those of the reads in which an event's last byte came.

    token_times: one per output token, ascending; tokens of one chunk share its time; None when the stream does not show them.
    first_content, last_content: the first and the last event that brought a token or text. input_tokens, output_tokens, cached_tokens:
    the server's usage figures. finish_reason: as sent. done: `[DONE]` was seen. error: what the server, or the stream's form, got wrong.
    contents: number of events with content.
    """

    token_times: tuple[float, ...] | None
    first_content: float | None
    last_content: float | None
    contents: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    finish_reason: str | None
    done: bool
    error: str | None


@dataclass(slots=True)
class _Chunk:
    """One event with a choice in it. tokens: how many it brings, None where it does not say."""

    time: float
    tokens: int | None
    text: bool


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


def parse(reads: Iterable[Read]) -> Stream:
    """Everything that one response body says. Never raises on foreign bytes: what is wrong with them is in `error`."""
    chunks: list[_Chunk] = []
    usage: dict[str, int] = {}
    finish_reason: str | None = None
    error: str | None = None
    done = False
    produced = 0  # tokens so far, as far as the server says
    for time, data in events(reads):
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = orjson.loads(data)
            if event.get("error"):
                error = error or f"the server sent an error: {_message(event['error'])}"
            running = _usage(event.get("usage") or {})
            usage |= running
            for choice in (event.get("choices") or ())[:1]:
                tokens = _tokens(choice, running.get("output"), produced)
                produced += tokens or 0
                chunks.append(_Chunk(time, tokens, _has_text(choice)))
                finish_reason = choice.get("finish_reason") or finish_reason
        except (ValueError, TypeError, AttributeError, KeyError):
            error = error or f"an event is no completion chunk: {data[:EXCERPT].decode(errors='replace')}"
    times = _token_times(chunks, usage.get("output"))
    contents = [chunk.time for chunk in chunks if chunk.text or chunk.tokens] if times is None or _counted(chunks) else list(times)
    return Stream(
        token_times=times,
        first_content=contents[0] if contents else None,
        last_content=contents[-1] if contents else None,
        contents=len(contents),
        input_tokens=usage.get("input"),
        output_tokens=usage.get("output"),
        cached_tokens=usage.get("cached"),
        finish_reason=finish_reason,
        done=done,
        error=error,
    )


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    """The counts it gives, under short names."""
    details = usage.get("prompt_tokens_details") or {}
    counts = {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens"), "cached": details.get("cached_tokens")}
    return {name: int(count) for name, count in counts.items() if count is not None}


def _tokens(choice: dict[str, Any], total: int | None, produced: int) -> int | None:
    """How many tokens this chunk brings, where it says so: by their ids, or by the running total."""
    ids = choice.get("token_ids")
    if ids is not None:
        return len(ids)
    return None if total is None else total - produced


def _has_text(choice: dict[str, Any]) -> bool:
    """Completions put text in `text`, chat completions in `delta`."""
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or delta.get("content") or delta.get("reasoning_content"))


def _counted(chunks: list[_Chunk]) -> bool:
    return all(chunk.tokens is not None for chunk in chunks)


def _token_times(chunks: list[_Chunk], total: int | None) -> tuple[float, ...] | None:
    """One time per output token, or None when the chunks cannot be reconciled with the server's total (see the module's docstring)."""
    if _counted(chunks):
        candidates = [[chunk.time for chunk in chunks for _ in range(chunk.tokens or 0)]]
    else:  # one token a chunk, with or without the chunks whose text is empty
        candidates = [[chunk.time for chunk in chunks if chunk.text], [chunk.time for chunk in chunks]]
    return next((tuple(times) for times in candidates if times and len(times) == total), None)


def _message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)[:EXCERPT]
