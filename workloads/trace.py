"""Request and Trace: the nouns that every engine and every simulator gets, unchanged."""

import dataclasses
import hashlib
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property


class TraceError(ValueError):
    """A trace that cannot be replayed; the message says where (file and row) and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as the trace asks for it.

    request_id: unique within its trace.
    arrival: seconds since the trace's start at which the request must be sent.
    input_tokens: prompt length, >= 1.
    output_tokens: tokens to generate, >= 1, the first one included.
    blocks: ids of the prompt's leading blocks of `Trace.block_size` tokens each, in order. Two requests with the same leading ids
        share exactly that many leading blocks (the last one may be part of a block). Empty: the prompt shares nothing.
    """

    request_id: int
    arrival: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.arrival) and self.arrival >= 0):
            raise TraceError(f"request {self.request_id}: arrival must be a finite number >= 0 s, got {self.arrival}")
        for field in ("input_tokens", "output_tokens"):
            if getattr(self, field) < 1:
                raise TraceError(f"request {self.request_id}: {field} must be >= 1, got {getattr(self, field)}")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Requests in order of arrival, with unique ids. Immutable; `sha256` names its content.

    name: for people. block_size: tokens per id in `Request.blocks` (None when no request has any).
    Raises TraceError when empty, unsorted, or with a repeated id, or with blocks that do not fit the prompt.
    """

    name: str
    requests: tuple[Request, ...]
    block_size: int | None = None

    def __post_init__(self) -> None:
        if not self.requests:
            raise TraceError(f"trace {self.name}: it has no requests")
        seen: set[int] = set()
        previous = 0.0
        for row, request in enumerate(self.requests):
            where = f"trace {self.name}: row {row} (request {request.request_id})"
            if request.arrival < previous:
                raise TraceError(f"{where}: arrivals must not decrease: {request.arrival} s after {previous} s")
            if request.request_id in seen:
                raise TraceError(f"{where}: request_id {request.request_id} appears twice")
            if request.blocks:
                self._check_blocks(where, request)
            seen.add(request.request_id)
            previous = request.arrival

    def _check_blocks(self, where: str, request: Request) -> None:
        if self.block_size is None or self.block_size < 1:
            raise TraceError(f"{where}: it has blocks, so the trace needs a block_size >= 1, got {self.block_size}")
        needed = math.ceil(request.input_tokens / self.block_size)
        if len(request.blocks) > needed:
            raise TraceError(
                f"{where}: {len(request.blocks)} blocks of {self.block_size} tokens, but its prompt of "
                f"{request.input_tokens} tokens has only {needed}"
            )

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the content (ids, arrivals, lengths, blocks, block size); the name is left out."""
        digest = hashlib.sha256(struct.pack("<q", self.block_size or 0))
        for r in self.requests:
            digest.update(struct.pack("<qdqqq", r.request_id, r.arrival, r.input_tokens, r.output_tokens, len(r.blocks)))
            digest.update(struct.pack(f"<{len(r.blocks)}q", *r.blocks))
        return digest.hexdigest()

    @property
    def duration(self) -> float:
        """Seconds from the trace's start to its last arrival."""
        return self.requests[-1].arrival

    @property
    def rate(self) -> float | None:
        """Mean arrivals per second, (n - 1) / (last - first); None when that is undefined (one instant)."""
        span = self.requests[-1].arrival - self.requests[0].arrival
        return (len(self.requests) - 1) / span if span > 0 else None

    def with_arrivals(self, arrivals: Iterable[float]) -> "Trace":
        """The same requests at other times (one per request, in this trace's order), sorted again by arrival."""
        moved = [dataclasses.replace(r, arrival=a) for r, a in zip(self.requests, arrivals, strict=True)]
        moved.sort(key=lambda r: (r.arrival, r.request_id))
        return dataclasses.replace(self, requests=tuple(moved))
