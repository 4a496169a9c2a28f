"""/v1/completions: the prompt goes to the model as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.replay.protocols import choices
from harness.replay.protocols.wire_protocol import Prompt, Said, TokenCounts


@dataclass(frozen=True, kw_only=True)
class Completions:
    """prompts: ids (token ids, which the server takes as they are) or text (which it must tokenise)."""

    prompts: Literal["ids", "text"] = "ids"

    path = "/v1/completions"
    tells_reasoning = False

    def __post_init__(self) -> None:
        if self.prompts not in ("ids", "text"):
            raise ValueError(f"client.protocol.prompts must be ids or text, got {self.prompts!r}")

    @property
    def takes_text(self) -> bool:
        """See WireProtocol."""
        return self.prompts == "text"

    def body(self, prompt: Prompt, output_tokens: int, *, count_tokens: bool) -> dict[str, Any]:
        """See WireProtocol."""
        given = prompt if isinstance(prompt, str) else list(prompt)
        return {"prompt": given, "max_tokens": output_tokens, "stream_options": choices.stream_options(count_tokens=count_tokens)}

    def said(self, event: Mapping[str, Any]) -> Said:
        """See WireProtocol."""
        return choices.said(event, _texts)

    def usage(self, told: Mapping[str, Any]) -> TokenCounts:
        """See WireProtocol."""
        return choices.usage(told)


def _texts(choice: choices.Choice) -> tuple[bool, bool]:
    return bool(choice.get("text")), False
