"""A trace's requests as arrays, and back. Traces of a million requests are slow to hold as objects."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from workloads.trace import EPOCH_LIKE, Columns, Request, Requests, Trace

PIECE = 1 << 14  # requests made at once
HASHED = np.dtype([(name, "<f8" if name == "arrival" else "<i8") for name in (*Columns._fields, "blocks")])  # see Trace.sha256


def columns_of(trace: Trace) -> Columns:
    """The trace's requests as arrays, without their blocks."""
    if isinstance(trace.requests, RequestColumns):
        return trace.requests.columns
    n = len(trace)
    return Columns(
        request_id=np.fromiter((r.request_id for r in trace), np.int64, n),
        arrival=np.fromiter((r.arrival for r in trace), np.float64, n),
        input_tokens=np.fromiter((r.input_tokens for r in trace), np.int64, n),
        output_tokens=np.fromiter((r.output_tokens for r in trace), np.int64, n),
    )


def tokens_of(trace: Trace) -> NDArray[np.int64]:
    """Tokens of each request, prompt and output."""
    columns = columns_of(trace)
    return columns.input_tokens + columns.output_tokens


def in_columns(trace: Trace) -> Trace:
    """The same trace, held as arrays where its requests share no blocks and wait for nobody."""
    if isinstance(trace.requests, RequestColumns) or any(r.blocks or r.after or r.session is not None for r in trace):
        return trace
    return Trace(name=trace.name, requests=RequestColumns(columns_of(trace)))


def requests_of(columns: Columns) -> Sequence[Request]:
    """Requests that share no blocks, held as arrays. Of columns that are no trace they are objects, of which Trace says what is wrong."""
    return RequestColumns(columns) if well_formed(columns) else tuple(_made(columns, slice(None)))


def well_formed(columns: Columns) -> bool:
    """Whether they are what a Trace promises: sorted finite arrivals >= 0, none at a wall-clock time, counts >= 1, unique ids."""
    ids, arrival, inputs, outputs = columns
    return bool(
        len(ids)
        and np.isfinite(arrival).all()
        and arrival[0] >= 0
        and arrival[-1] < EPOCH_LIKE
        and (np.diff(arrival) >= 0).all()
        and min(inputs.min(), outputs.min()) >= 1
        and len(np.unique(ids)) == len(ids)
    )


class RequestColumns(Requests):
    """Well-formed columns as requests that share no blocks. Raises ValueError for other columns; the reader of a file says which row."""

    def __init__(self, columns: Columns) -> None:
        if not well_formed(columns):
            raise ValueError("these columns are no trace")
        self._columns = columns

    @property
    def columns(self) -> Columns:
        """See Requests."""
        return self._columns

    def hashed(self) -> bytes:
        """See Requests."""
        rows = np.zeros(len(self), HASHED)
        for name, values in zip(Columns._fields, self._columns, strict=True):
            rows[name] = values
        return rows.tobytes()

    def __len__(self) -> int:
        return len(self._columns.arrival)

    def __iter__(self) -> Iterator[Request]:
        for first in range(0, len(self), PIECE):
            yield from _made(self._columns, slice(first, first + PIECE))

    @overload
    def __getitem__(self, place: int) -> Request: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Request, ...]: ...
    def __getitem__(self, place: int | slice) -> Request | tuple[Request, ...]:
        if isinstance(place, slice):
            return tuple(_made(self._columns, place))
        ids, *others = (column[place].item() for column in self._columns)
        return Request(request_id=ids, arrival=others[0], input_tokens=others[1], output_tokens=others[2])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RequestColumns):
            return all(np.array_equal(a, b) for a, b in zip(self._columns, other._columns, strict=True))
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(self.hashed())


def _made(columns: Columns, some: slice) -> Iterator[Request]:
    ids, arrivals, inputs, outputs = (column[some].tolist() for column in columns)
    for i, a, n, m in zip(ids, arrivals, inputs, outputs, strict=True):
        yield Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m)
