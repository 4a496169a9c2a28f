"""/v1/responses, as vLLM has it: typed events, the usage in the last one, no running count of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.replay.protocols.wire_protocol import Prompt, Said, TokenCounts

ANSWER = frozenset({"response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"})
REASONING = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta", "response.reasoning.delta"})
LAST = frozenset({"response.completed", "response.incomplete"})  # incomplete: max_output_tokens were made
FAILED = frozenset({"response.failed", "error"})


@dataclass(frozen=True, kw_only=True)
class Responses:
    """One input text a request; nothing is kept by the server."""

    path = "/v1/responses"
    takes_text = True
    tells_reasoning = True

    def body(self, prompt: Prompt, output_tokens: int, *, count_tokens: bool) -> dict[str, Any]:
        """See WireProtocol. There is no way to ask for counts."""
        return {"input": prompt, "max_output_tokens": output_tokens, "store": False}

    def said(self, event: Mapping[str, Any]) -> Said:
        """See WireProtocol. A delta is a chunk, and its tokens are not told."""
        kind = event.get("type")
        if kind in ANSWER or kind in REASONING:
            brings = bool(event["delta"])
            return Said(chunk=True, text=brings and kind in ANSWER, reasoning=brings and kind in REASONING)
        if kind in LAST:
            response = event["response"]
            return Said(usage=response.get("usage"), finish_reason=str(response.get("status") or kind), done=True)
        if kind in FAILED or event.get("error"):
            inner = event.get("response") or {}
            return Said(error=inner.get("error") or event.get("error") or event, done=True)
        return Said()

    def usage(self, told: Mapping[str, Any]) -> TokenCounts:
        """See WireProtocol."""
        details = told.get("input_tokens_details") or {}
        counts = (told.get("input_tokens"), told.get("output_tokens"), details.get("cached_tokens"))
        return TokenCounts(*(None if count is None else int(count) for count in counts))
