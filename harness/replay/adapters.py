"""LoRA adapters by their shares of the requests: which request asks for which. An adapter's name is the `model` of its requests."""

import hashlib
import math
from collections.abc import Mapping

from workloads.trace import Request


def check(shares: Mapping[str, float]) -> None:
    """See that shares can be: each in (0, 1], at most 1 together (the rest asks for the model itself). Raises ValueError."""
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"client.adapters: the share of {name} must be > 0 and at most 1, got {share!r}")
    if math.fsum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"client.adapters: the shares are {math.fsum(shares.values()):g} together, and can be 1 at most")


def adapter_of(request: Request, shares: Mapping[str, float], seed: int) -> str | None:
    """The adapter that a request asks for; None: the model itself. All turns of a session ask for one, or they would share no cache.

    The same seed gives the same answer on every machine, whatever else the trace holds.
    """
    if not shares:
        return None
    who = f"request {request.request_id}" if request.session is None else f"session {request.session}"
    drawn = int.from_bytes(hashlib.blake2b(f"{seed} {who}".encode(), digest_size=8).digest()) / 2**64
    for name, share in shares.items():
        drawn -= share
        if drawn < 0:
            return name
    return None
