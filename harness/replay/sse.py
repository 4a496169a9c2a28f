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
    """One streamed completion. Times are those of the reads in which an event's last byte came."""

    # one per output token, ascending; tokens of one chunk share its time; None: the stream does not show them
    token_times: tuple[float, ...] | None
    first_content: float | None  # time of the first event that brought a token or text
    last_content: float | None  # time of the last such event
    contents: int  # number of such events
    input_tokens: int | None  # the server's usage figure
    output_tokens: int | None  # the server's usage figure
    cached_tokens: int | None  # the server's usage figure
    finish_reason: str | None  # as sent
    done: bool  # whether `[DONE]` was seen
    error: str | None  # what the server, or the stream's form, got wrong


# An event that has a choice: its time, how many tokens it brings (None: it does not say), whether it has text.
_Chunk = tuple[float, int | None, bool]


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
    usage: dict[str, Any] = {}
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
            running = event.get("usage")
            usage = running or usage
            for choice in (event.get("choices") or ())[:1]:
                tokens = _tokens(choice, running, produced)
                produced += tokens or 0
                chunks.append((time, tokens, _has_text(choice)))
                finish_reason = choice.get("finish_reason") or finish_reason
        except (ValueError, TypeError, AttributeError, KeyError):
            error = error or f"an event is no completion chunk: {data[:EXCERPT].decode(errors='replace')}"
    try:
        input_tokens, output_tokens, cached_tokens = _usage(usage)
    except (ValueError, TypeError, AttributeError):
        input_tokens = output_tokens = cached_tokens = None
        error = error or f"the usage is not what it should be: {str(usage)[:EXCERPT]}"
    times = _token_times(chunks, output_tokens)
    contents = list(times) if times and not _counted(chunks) else [time for time, tokens, text in chunks if tokens or text]
    return Stream(
        token_times=times,
        first_content=contents[0] if contents else None,
        last_content=contents[-1] if contents else None,
        contents=len(contents),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        finish_reason=finish_reason,
        done=done,
        error=error,
    )


def _usage(usage: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Input, output and cached tokens of a usage object, None where it does not say."""
    details = usage.get("prompt_tokens_details") or {}
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens"))
    input_tokens, output_tokens, cached_tokens = (None if count is None else int(count) for count in counts)
    return input_tokens, output_tokens, cached_tokens


def _tokens(choice: dict[str, Any], usage: dict[str, Any] | None, produced: int) -> int | None:
    """How many tokens this chunk brings, where it says so: by their ids, or by the running total."""
    ids = choice.get("token_ids")
    if ids is not None:
        return len(ids)
    total = usage.get("completion_tokens") if usage else None
    return None if total is None else total - produced


def _has_text(choice: dict[str, Any]) -> bool:
    """Completions put text in `text`, chat completions in `delta`."""
    if choice.get("text"):
        return True
    delta = choice.get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content"))


def _counted(chunks: list[_Chunk]) -> bool:
    return all(tokens is not None for _, tokens, _ in chunks)


def _token_times(chunks: list[_Chunk], total: int | None) -> tuple[float, ...] | None:
    """One time per output token, or None when the chunks cannot be reconciled with the server's total (see the module's docstring)."""
    if _counted(chunks):
        candidates = [[time for time, tokens, _ in chunks for _ in range(tokens or 0)]]
    else:  # one token a chunk, with or without the chunks whose text is empty
        candidates = [[time for time, _, text in chunks if text], [time for time, _, _ in chunks]]
    return next((tuple(times) for times in candidates if times and len(times) == total), None)


def _message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message or error)[:EXCERPT].split())
