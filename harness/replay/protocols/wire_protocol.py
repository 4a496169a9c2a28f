"""What the client asks of an API: where requests go, what they look like, and what an event of an answer says."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Prompt = Sequence[int] | str  # token ids, or text


class TokenCounts(NamedTuple):
    """The server's own count of tokens; None: it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None  # of the input, from the prefix cache


class Said(NamedTuple):
    """What one event of an answer says."""

    chunk: bool = False  # whether it is of the kind that brings output; the first ones may bring none
    text: bool = False  # whether it brings text of the answer
    reasoning: bool = False  # whether it brings text of the reasoning before the answer
    tokens: int | None = None  # how many it brings; None: it does not say
    total: int | None = None  # output tokens so far, this event's included; None: it does not say
    usage: Mapping[str, Any] | None = None  # the server's counts, in its own form
    finish_reason: str | None = None  # why the answer ended, as sent
    done: bool = False  # whether nothing more will come
    error: Any = None  # what the server says went wrong


class WireProtocol(Protocol):
    """One API. It is a frozen dataclass: what it has is what users set."""

    @property
    def path(self) -> str:
        """Of its requests, below the server's base URL."""
        ...

    @property
    def takes_text(self) -> bool:
        """Whether its prompts are text; else they are token ids."""
        ...

    @property
    def tells_reasoning(self) -> bool:
        """Whether a server can tell reasoning and answer apart in its events."""
        ...

    def body(self, prompt: Prompt, output_tokens: int, *, count_tokens: bool) -> dict[str, Any]:
        """A streamed request for so many tokens, but for what all protocols have in common (the client's `_request`).

        count_tokens: whether each event shall tell how many tokens there were so far, where the protocol has a way to ask.
        """
        ...

    def said(self, event: Mapping[str, Any]) -> Said:
        """What an event says. Raises ValueError, TypeError, AttributeError or KeyError for one that is none of this protocol."""
        ...

    def usage(self, told: Mapping[str, Any]) -> TokenCounts:
        """A usage in the protocol's own form. Raises as `said`."""
        ...
