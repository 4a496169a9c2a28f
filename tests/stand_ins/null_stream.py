"""What the null server writes: the bytes of a streamed completion, token by token, whole or with a fault."""

from functools import lru_cache
from typing import Any

import orjson

FAULTS = {
    "none": "no fault",
    "error_in_200": "an SSE error object half way, then [DONE], all with HTTP 200",
    "http_500": "HTTP status 500 with a JSON body",
    "cut": "the connection is closed half way",
    "cut_clean": "the response ends half way, without finish_reason or [DONE]",
    "reset": "the connection is reset half way",
    "hang": "a head and half the tokens, then nothing",
    "silent": "nothing at all",
    "die": "the server process dies half way through the response",
    "garbage": "bytes that are no HTTP",
    "not_json": "an event that is not JSON",
    "plain_json": "the answer in one piece, not as a stream",
    "role_first": "an empty and a role-only chunk before the first token",
    "several": "four tokens in each chunk",
    "empty_text": "every fourth token has no text",
    "no_usage": "no usage figures",
    "wrong_output": "the usage says one token more than asked",
    "wrong_input": "the usage says one prompt token more than sent",
    "short": "half the tokens, properly ended",
    "cached": "half the prompt is reported as cached",
    "crlf": "CRLF line ends, comments, and other SSE fields",
    "fragments": "each event in three TCP segments",
    "glued": "all events in one TCP segment",
    "close": "the connection is closed properly after the answer",
    "needs_key": "HTTP 401 unless there is a bearer token",
}
HEAD = b"HTTP/1.1 200 OK\r\nserver: null\r\ncontent-type: text/event-stream; charset=utf-8\r\n%btransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: dict[str, Any], fault: str) -> bytes:
    data = b"data: " + orjson.dumps(body)
    return _frame(b": a comment\r\nevent: x\r\n" + data + b"\r\n\r\n" if fault == "crlf" else data + b"\n\n")


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    body = {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": "text_completion", "created": 1, "model": "null", "choices": choices}
    return body | ({"usage": usage} if usage else {})


@lru_cache(maxsize=4096)
def writes(inputs: int, outputs: int, counted: bool, fault: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """What is written: per token (an empty entry: nothing at that time), and after the last token."""

    def usage(tokens: int) -> dict[str, Any]:
        details = {"prompt_tokens_details": {"cached_tokens": inputs // 2}} if fault == "cached" else {}
        return {"prompt_tokens": inputs + (fault == "wrong_input"), "completion_tokens": tokens} | details

    stride = 4 if fault == "several" else 1
    total = max(1, outputs // 2) if fault == "short" else outputs
    events = []
    for token in range(1, total + 1):
        if token % stride and token != total:
            events.append(b"")
            continue
        text = "" if fault == "empty_text" and token % 4 == 1 else " tok" * stride
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "length" if token == total else None, "stop_reason": None}
        events.append(_event(_chunk([choice], usage(token) if counted else None), fault))
    if fault == "role_first":
        empty = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        first = _event(_chunk([empty], usage(0) if counted else None), fault)
        events = [first, *events]
    if fault == "not_json":
        events[len(events) // 2] = _frame(b"data: {not json}\n\n")
    last = [] if fault == "no_usage" else [_event(_chunk([], usage(total + (fault == "wrong_output"))), fault)]
    last += [_frame(b"data: [DONE]\n\n"), END]
    if fault == "error_in_200":
        error = {"error": {"message": "the KV pool is too small", "type": "BadRequestError", "code": 400}}
        events, last = events[: total // 2], [_event(error, fault), *last]
    elif fault in ("cut", "reset", "hang", "die", "cut_clean"):
        events, last = events[: total // 2], [END] if fault == "cut_clean" else []
    if fault == "glued":
        events, last = [b"".join(events + last)], []
    return tuple(events), (b"".join(last),) if last else ()
