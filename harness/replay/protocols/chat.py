"""/v1/chat/completions: the prompt is what a user says, and the server puts the model's chat template around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.replay.protocols import choices
from harness.replay.protocols.wire_protocol import Prompt, Said, TokenCounts


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One message of the user a request: a session's later turn has all that was said before in it, as its trace does."""

    path = "/v1/chat/completions"
    takes_text = True
    tells_reasoning = True

    def body(self, prompt: Prompt, output_tokens: int, *, count_tokens: bool) -> dict[str, Any]:
        """See WireProtocol."""
        return {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": output_tokens,
            "stream_options": choices.stream_options(count_tokens=count_tokens),
        }

    def said(self, event: Mapping[str, Any]) -> Said:
        """See WireProtocol."""
        return choices.said(event, _texts)

    def usage(self, told: Mapping[str, Any]) -> TokenCounts:
        """See WireProtocol."""
        return choices.usage(told)


def _texts(choice: choices.Choice) -> tuple[bool, bool]:
    """Calls of tools are part of the answer. vLLM calls its reasoning `reasoning`, SGLang and llama.cpp `reasoning_content`."""
    delta = choice.get("delta") or {}
    return bool(delta.get("content") or delta.get("tool_calls")), bool(delta.get("reasoning_content") or delta.get("reasoning"))
