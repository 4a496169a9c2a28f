"""RecordTable: many RequestRecords as columns, for runs of a million requests. Whoever reads them one by one gets RequestRecords."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from results.record import Records, RequestRecord
from results.token_times import TokenTimes
from workloads.arrow import arrow, numpy

COLUMNS = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("arrival", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("sent", "scheduled", "first_token", "finished")),
        *(pa.field(name, pa.int64()) for name in ("input_tokens", "output_tokens", "cached_tokens")),
        pa.field("error", pa.string()),
        pa.field("first_output_token", pa.float64()),
        pa.field("adapter", pa.string()),
    ]
)
LATER = ("first_output_token", "adapter")  # columns that records did not have at first: of those, they are unknown
FIRST = pa.schema([field for field in COLUMNS if field.name not in LATER])
PIECE = 1 << 14  # records made at once


def with_later(table: pa.Table) -> pa.Table:
    """The table, and behind its columns those of LATER that it lacks, all NULL."""
    for name in LATER:
        if name not in table.column_names:
            table = table.append_column(COLUMNS.field(name), pa.nulls(len(table), COLUMNS.field(name).type))
    return table


class RecordTable(Records):
    """columns: as COLUMNS (those of LATER may be missing), unknown is NULL. token_times: None when no record has any. shown: whether each
    record has token times (all).
    """

    def __init__(self, columns: pa.Table, token_times: TokenTimes | None, shown: NDArray[np.bool_] | None = None) -> None:
        columns = with_later(columns)
        # casting imports pyarrow.compute, which takes longer than to simulate most traces
        self.columns = columns if columns.schema.equals(COLUMNS, check_metadata=True) else columns.cast(COLUMNS)
        self.token_times = token_times
        self._shown = np.full(len(columns), token_times is not None) if shown is None else shown

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> "RecordTable":
        """These records. Raises pyarrow's errors for values of another type."""
        if isinstance(records, RecordTable):
            return records
        columns = [pa.array([getattr(r, f.name) for r in records], type=f.type, from_pandas=False) for f in COLUMNS]
        shown = np.array([r.token_times is not None for r in records], dtype=bool)
        return cls(pa.table(columns, schema=COLUMNS), TokenTimes.of(records), shown)

    @classmethod
    def merged(cls, parts: Sequence["RecordTable"], places: Sequence[NDArray[np.int64]]) -> "RecordTable":
        """The records of all parts as one table. places: of each part, where its records come in that table."""
        order = np.argsort(np.concatenate(places))
        times = [part.token_times for part in parts]
        known = [t.unshifted() for t in times if t is not None]
        return cls(
            pa.concat_tables([part.columns for part in parts]).take(order).combine_chunks(),
            TokenTimes.merged(known, places) if len(known) == len(parts) else None,
            np.concatenate([part._shown for part in parts])[order],
        )

    def at(self, *, arrival: Sequence[float], sent: Sequence[float | None]) -> "RecordTable":
        """The same records, with these arrivals and sending times, s."""
        columns = self.columns
        for name, times in (("arrival", arrival), ("sent", sent)):
            columns = columns.set_column(columns.schema.get_field_index(name), COLUMNS.field(name), pa.array(times, pa.float64()))
        return RecordTable(columns, self.token_times, self._shown)

    @property
    def request_ids(self) -> NDArray[np.int64]:
        """See Records."""
        return numpy(self.columns["request_id"])

    @cached_property
    def num_token_times(self) -> pa.Array:
        """Of each record; NULL when it shows none."""
        counts = np.zeros(len(self), np.int64) if self.token_times is None else self.token_times.counts
        return arrow(counts, null=~self._shown)

    def tokens(self) -> Iterator[pa.Table]:
        """All token times, in pieces: request_id, token_index, time (s)."""
        for record, index, time in iter(()) if self.token_times is None else self.token_times.pieces():
            columns = [arrow(self.request_ids[record]), arrow(index.astype(np.int32)), arrow(time)]
            yield pa.Table.from_arrays(columns, names=["request_id", "token_index", "time"])

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[RequestRecord]:
        for first in range(0, len(self), PIECE):
            yield from self._made(first, min(first + PIECE, len(self)))

    @overload
    def __getitem__(self, place: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[RequestRecord]: ...
    def __getitem__(self, place: int | slice) -> RequestRecord | Sequence[RequestRecord]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        (record,) = self._made(*slice(place, place + 1 or None).indices(len(self))[:2])
        return record

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _made(self, first: int, last: int) -> list[RequestRecord]:
        if first >= last:
            raise IndexError(f"there are {len(self)} records")
        rows: list[dict[str, Any]] = self.columns.slice(first, last - first).to_pylist()
        if self.token_times is None:
            return [RequestRecord(**row) for row in rows]
        times = self.token_times.between(first, last).tolist()
        counts = self.num_token_times.slice(first, last - first).to_pylist()
        made, start = [], 0
        for row, count in zip(rows, counts, strict=True):
            made.append(RequestRecord(**row, token_times=None if count is None else tuple(times[start : start + count])))
            start += count or 0
        return made
