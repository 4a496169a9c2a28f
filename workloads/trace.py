"""Request and Trace: the nouns that every engine and every simulator gets, unchanged."""

import dataclasses
import hashlib
import math
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EPOCH_LIKE = 1e8  # seconds (3 years): a later arrival can only be a wall-clock time


class TraceError(ValueError):
    """A trace that cannot be replayed; the message says where (file and row) and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as the trace asks for it. Two requests with the same leading blocks share exactly those (the last one may be part of a
    block).

    One that waits for others (`after`: the turns before it, several where branches join) is sent `delay` after the last of them has ended.
    Its arrival is then only its place in the trace's order; in a run it is the moment at which it became due.
    """

    request_id: int  # unique within its trace
    arrival: float  # s since the trace's start at which the request must be sent
    input_tokens: int  # prompt length, >= 1
    output_tokens: int  # tokens to generate, >= 1, the first one included
    blocks: tuple[int, ...] = ()  # ids of the prompt's leading blocks of `Trace.block_size` tokens each, in order; empty: it shares nothing
    after: tuple[int, ...] = ()  # ids of earlier requests of the trace that must have ended before it is sent; empty: it waits for none
    delay: float = 0.0  # s from the end of the last of these until it is sent: thinking, a tool
    session: int | None = None  # the session whose turn it is; None: it is in none

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay) and self.delay >= 0) or (self.delay and not self.after):
            raise TraceError(f"request {self.request_id}: delay must be >= 0 s, and 0 of a request that waits for none, got {self.delay}")
        if not (math.isfinite(self.arrival) and self.arrival >= 0):
            raise TraceError(f"request {self.request_id}: arrival must be a finite number >= 0 s, got {self.arrival}")
        for field in ("input_tokens", "output_tokens"):
            if getattr(self, field) < 1:
                raise TraceError(f"request {self.request_id}: {field} must be >= 1, got {getattr(self, field)}")


class Columns(NamedTuple):
    """Requests as arrays, one of each field; without blocks."""

    request_id: NDArray[np.int64]
    arrival: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


class Requests(Sequence[Request]):
    """Requests that are not held as objects, but made when asked for (columns.py). They have no blocks, and pass `check_requests`."""

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """All of them."""

    @abstractmethod
    def hashed(self) -> bytes:
        """What Trace.sha256 is made of."""


def check_requests(requests: Sequence[Request], block_size: int | None, where: Callable[[int], str]) -> None:
    """Check what a Trace promises of its requests; `where(index)` says in the error where a request came from.

    Raises TraceError for decreasing or wall-clock arrivals, a repeated id, blocks that do not fit the prompt, and a request that waits for
    itself, or for one that does not come before it.
    """
    seen: set[int] = set()
    previous = 0.0
    for index, r in enumerate(requests):
        problem = None
        if r.arrival >= EPOCH_LIKE:
            problem = f"arrival {r.arrival} s is a wall-clock time; subtract the trace's start from every arrival"
        elif r.arrival < previous:
            problem = f"arrivals must not decrease: {r.arrival} s after {previous} s; sort the rows by arrival"
        elif r.request_id in seen:
            problem = f"request_id {r.request_id} appears twice; give each request its own"
        else:
            problem = (_blocks_problem(r, block_size) if r.blocks else None) or _after_problem(r, seen)
        if problem is not None:
            raise TraceError(f"{where(index)} (request {r.request_id}): {problem}")
        seen.add(r.request_id)
        previous = r.arrival


def _after_problem(request: Request, seen: set[int]) -> str | None:
    for other in request.after:
        if other == request.request_id:
            return "it waits for itself; after must name earlier requests"
        if other not in seen:
            return f"it waits for request {other}, which is not among the requests before it; put that first, or take it out of after"
    return None


def _blocks_problem(request: Request, block_size: int | None) -> str | None:
    if block_size is None or block_size < 1:
        return f"it has blocks, so the trace needs a block_size >= 1, got {block_size}"
    needed = math.ceil(request.input_tokens / block_size)
    if len(request.blocks) > needed:
        return f"{len(request.blocks)} blocks of {block_size} tokens, but its prompt of {request.input_tokens} tokens has only {needed}"
    return None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Requests in order of arrival, with unique ids. Immutable; `sha256` names its content.

    name: for people. block_size: tokens per id in `Request.blocks` (None when no request has any).
    Raises TraceError when empty, unsorted, at wall-clock times, with a repeated id, or with blocks that do not fit the prompt.
    """

    name: str
    requests: Sequence[Request]
    block_size: int | None = None

    def __post_init__(self) -> None:
        if not self.requests:
            raise TraceError(f"trace {self.name}: it has no requests")
        if not isinstance(self.requests, Requests):
            check_requests(self.requests, self.block_size, lambda row: f"trace {self.name}: row {row}")

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the content (ids, arrivals, lengths, blocks, block size, sessions); the name is left out."""
        digest = hashlib.sha256(struct.pack("<q", self.block_size or 0))
        if isinstance(self.requests, Requests):
            digest.update(self.requests.hashed())
            return digest.hexdigest()
        for r in self.requests:
            digest.update(struct.pack("<qdqqq", r.request_id, r.arrival, r.input_tokens, r.output_tokens, len(r.blocks)))
            digest.update(struct.pack(f"<{len(r.blocks)}q", *r.blocks))
            if r.after or r.session is not None:
                digest.update(repr((r.after, r.delay, r.session)).encode())
        return digest.hexdigest()

    @property
    def has_sessions(self) -> bool:
        """Whether a request waits for others, or belongs to a session."""
        return not isinstance(self.requests, Requests) and any(r.after or r.session is not None for r in self.requests)

    def without_sessions(self) -> "Trace":
        """The same requests, none of which waits for another."""
        if not self.has_sessions:
            return self
        alone = (dataclasses.replace(r, after=(), delay=0.0, session=None) for r in self.requests)
        return dataclasses.replace(self, requests=tuple(alone))

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
        waits = self.has_sessions  # then those of one moment stay in order: a turn comes behind those that it waits for
        moved.sort(key=lambda r: (r.arrival, 0 if waits else r.request_id))
        return dataclasses.replace(self, requests=tuple(moved))
