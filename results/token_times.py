"""TokenTimes: when each token of many requests came. All requests of a batch get a token at the same time, so that time is held once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord

PIECE = 1 << 20  # token times made at once, unless one request has more

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTimes:
    """Token times of records 0 to n - 1, as runs: `length` consecutive times of `clock` from `start`, and `shift` seconds later.

    records: n. record: the record of each run, ascending; a record's runs are in order of time.
    """

    records: int
    clock: Floats
    record: Integers
    start: Integers
    length: Integers
    shift: float = 0.0

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> "TokenTimes":
        """The token times of records that hold their own."""
        counts = np.array([len(r.token_times or ()) for r in records], dtype=np.int64)
        times = chain.from_iterable(r.token_times or () for r in records)
        return cls(
            records=len(records),
            clock=np.fromiter(times, dtype=np.float64, count=int(counts.sum())),
            record=np.arange(len(records)),
            start=np.cumsum(counts) - counts,
            length=counts,
        )

    @classmethod
    def merged(cls, parts: Sequence["TokenTimes"], places: Sequence[Integers]) -> "TokenTimes":
        """The token times of several sets of records as one; places: of each set, where its records come. No set may be shifted."""
        before = np.cumsum([0, *(len(part.clock) for part in parts)])
        record = np.concatenate([place[part.record] for part, place in zip(parts, places, strict=True)])
        order = np.argsort(record, kind="stable")
        starts = [part.start + shift for part, shift in zip(parts, before.tolist(), strict=False)]
        return cls(
            records=sum(part.records for part in parts),
            clock=np.concatenate([part.clock for part in parts]),
            record=record[order],
            start=np.concatenate(starts)[order],
            length=np.concatenate([part.length for part in parts])[order],
        )

    def unshifted(self) -> "TokenTimes":
        """The same times, with a shift of 0."""
        return replace(self, clock=self.clock + self.shift, shift=0.0) if self.shift else self

    @property
    def counts(self) -> Integers:
        """Tokens of each record."""
        return np.bincount(self.record, weights=self.length, minlength=self.records).astype(np.int64)

    def between(self, first: int, last: int) -> Floats:
        """The times of records `first` to `last` - 1, one after the other."""
        runs = slice(*np.searchsorted(self.record, [first, last]))
        length = self.length[runs]
        before = np.cumsum(length) - length
        places = np.repeat(self.start[runs] - before, length) + np.arange(length.sum())
        times: Floats = self.clock[places]
        return times + self.shift if self.shift else times

    def pieces(self) -> Iterator[tuple[Integers, Integers, Floats]]:
        """(record, token's place in it, time) of all tokens, in pieces."""
        counts = self.counts
        ends = np.cumsum(counts)
        first = 0
        while first < self.records:
            before = ends[first] - counts[first]
            last = max(first + 1, int(np.searchsorted(ends, before + PIECE, side="right")))
            some = counts[first:last]
            starts = np.repeat(ends[first:last] - some - before, some)
            yield np.repeat(np.arange(first, last), some), np.arange(some.sum()) - starts, self.between(first, last)
            first = last
