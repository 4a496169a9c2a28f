"""What the null server writes: the bytes of a streamed answer in each API, token by token, whole or with a fault."""

from functools import lru_cache
from typing import Any

import orjson

FAULTS = {
    "none": "no fault",
    "error_in_200": "an SSE error object half way, then [DONE], all with HTTP 200",
    "http_500": "HTTP status 500 with a JSON body",
    "cut": "the connection is closed half way",
    "cut_clean": "the response ends half way, without finish_reason or [DONE]",
    "no_done": "the response ends with its usage, without [DONE]",
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
    "needs_header": "HTTP 401 unless there is the header X-Org: abc",
    "echo": "HTTP 400 with the fields of the request, but for its prompt",
    "reasoning": "the first half of the tokens is reasoning (`reasoning_content` in chat)",
    "reasoning_only": "all tokens are reasoning",
    "other_tokenizer": "each word is counted as two tokens",
    "drifts": "one token more is counted in prompts of over 100 words",
}
OVERHEAD = {"completions": 1, "chat": 11, "responses": 13}  # tokens that are counted beyond the words of a text
HEAD = b"HTTP/1.1 200 OK\r\nserver: null\r\ncontent-type: text/event-stream; charset=utf-8\r\n%btransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: dict[str, Any], fault: str) -> bytes:
    data = (b"event: %b\n" % body["type"].encode() if "type" in body else b"") + b"data: " + orjson.dumps(body)
    return _frame(b": a comment\r\nevent: x\r\n" + data + b"\r\n\r\n" if fault == "crlf" else data + b"\n\n")


OBJECTS = {"completions": "text_completion", "chat": "chat.completion.chunk"}  # some clients read an event by this


def _chunk(api: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    body = {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": OBJECTS[api], "created": 1, "model": "null", "choices": choices}
    return body | ({"usage": usage} if usage else {})


def counted_tokens(words: int, api: str, fault: str) -> int:
    """Tokens of a text of so many words."""
    return (2 * words if fault == "other_tokenizer" else words) + OVERHEAD[api] + (fault == "drifts" and words > 100)


def _brings(api: str, text: str, reasoning: bool, finish_reason: str | None) -> dict[str, Any]:
    """An event that brings text: a choice of the first two APIs, a whole event of the third."""
    if api == "responses":
        return {"type": f"response.{'reasoning_text' if reasoning else 'output_text'}.delta", "delta": text}
    choice = {"index": 0, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
    return choice | ({"text": text} if api == "completions" else {"delta": {"reasoning_content" if reasoning else "content": text}})


def _last(api: str, usage: dict[str, Any] | None, fault: str) -> list[bytes]:
    """What comes behind the last token."""
    if api == "responses":
        names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "prompt_tokens_details": "input_tokens_details"}
        told = None if usage is None else {names[name]: value for name, value in usage.items()}
        return [_event({"type": "response.completed", "response": {"status": "incomplete", "usage": told}}, fault)]
    done = [] if fault == "no_done" else [_frame(b"data: [DONE]\n\n")]
    return [*([] if usage is None else [_event(_chunk(api, [], usage), fault)]), *done]


@lru_cache(maxsize=4096)
def writes(inputs: int, outputs: int, counted: bool, fault: str, api: str = "completions") -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """What is written: per token (an empty entry: nothing at that time), and after the last token."""

    def usage(tokens: int) -> dict[str, Any]:
        details = {"prompt_tokens_details": {"cached_tokens": inputs // 2}} if fault == "cached" else {}
        return {"prompt_tokens": inputs + (fault == "wrong_input"), "completion_tokens": tokens} | details

    counted = counted and fault != "no_usage"
    stride = 4 if fault == "several" else 1
    total = max(1, outputs // 2) if fault == "short" else outputs
    events = []
    for token in range(1, total + 1):
        if token % stride and token != total:
            events.append(b"")
            continue
        text = "" if fault == "empty_text" and token % 4 == 1 else " tok" * stride
        reasoning = fault == "reasoning_only" or (fault == "reasoning" and token <= total // 2)
        said = _brings(api, text, reasoning, "length" if token == total else None)
        events.append(_event(said if api == "responses" else _chunk(api, [said], usage(token) if counted else None), fault))
    if fault == "role_first":
        empty = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        first = _event(_chunk(api, [empty], usage(0) if counted else None), fault)
        events = [first, *events]
    if fault == "not_json":
        events[len(events) // 2] = _frame(b"data: {not json}\n\n")
    final = None if fault == "no_usage" else usage(total + (fault == "wrong_output"))
    last = [*_last(api, final, fault), END]
    if fault == "error_in_200":
        error = {"error": {"message": "the KV pool is too small", "type": "BadRequestError", "code": 400}}
        events, last = events[: total // 2], [_event(error, fault), *last]
    elif fault in ("cut", "reset", "hang", "die", "cut_clean"):
        events, last = events[: total // 2], [END] if fault == "cut_clean" else []
    if fault == "glued":
        events, last = [b"".join(events + last)], []
    return tuple(events), (b"".join(last),) if last else ()
