"""What the events of /v1/completions and /v1/chat/completions have in common: choices, a running usage, an error."""

from collections.abc import Callable, Mapping
from typing import Any

from harness.replay.protocols.wire_protocol import Said, TokenCounts

Choice = Mapping[str, Any]


def stream_options(*, count_tokens: bool) -> dict[str, Any]:
    """The usage at the end; with count_tokens in every event (vLLM and SGLang have it)."""
    return {"include_usage": True} | ({"continuous_usage_stats": True} if count_tokens else {})


def said(event: Mapping[str, Any], texts: Callable[[Choice], tuple[bool, bool]]) -> Said:
    """What an event says. texts: whether a choice brings text of the answer, and of the reasoning."""
    usage, choices, error = event.get("usage"), event.get("choices"), event.get("error")
    if not choices:
        return Said(usage=usage, error=error)
    choice = choices[0]
    text, reasoning = texts(choice)
    ids = choice.get("token_ids")
    if usage:
        total = usage.get("completion_tokens")
    else:
        timings = event.get("timings")  # llama.cpp's
        total = timings.get("predicted_n") if timings else None
    told = (True, text, reasoning, None if ids is None else len(ids), total, usage, choice.get("finish_reason"), False, error)
    return tuple.__new__(Said, told)  # it is made once an event, and Said(...) takes thrice as long


def usage(told: Mapping[str, Any]) -> TokenCounts:
    """Input, output and cached tokens of a usage object."""
    details = told.get("prompt_tokens_details") or {}
    counts = (told.get("prompt_tokens"), told.get("completion_tokens"), details.get("cached_tokens"))
    return TokenCounts(*(None if count is None else int(count) for count in counts))
