"""A large trace held as columns is the trace."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads import files
from workloads.columns import RequestColumns, columns_of, in_columns
from workloads.files import read_parquet, write_parquet
from workloads.trace import Columns, Request, Trace, TraceError


def trace(n: int = 500) -> Trace:
    rng = np.random.default_rng(n)
    arrivals, lengths = np.cumsum(rng.exponential(0.1, n)).tolist(), rng.integers(1, 900, (n, 2)).tolist()
    requests = [
        Request(request_id=3 * i + 1, arrival=a, input_tokens=p, output_tokens=o)
        for i, (a, (p, o)) in enumerate(zip(arrivals, lengths, strict=True))
    ]
    return Trace(name="plain", requests=tuple(requests))


def as_columns(plain: Trace) -> Trace:
    return dataclasses.replace(plain, requests=RequestColumns(columns_of(plain)))


def test_columns_are_the_requests() -> None:
    plain, held = trace(), as_columns(trace())
    assert list(held) == list(plain) and held == plain and plain == held
    assert held.requests[-1] == plain.requests[-1] and held.requests[3:9] == plain.requests[3:9]
    assert (held.sha256, held.rate, held.duration, len(held)) == (plain.sha256, plain.rate, plain.duration, len(plain))
    assert held.with_arrivals(r.arrival / 2 for r in held) == plain.with_arrivals(r.arrival / 2 for r in plain)
    assert held != trace(400) and held != as_columns(trace(400))


def test_a_large_file_is_read_as_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trace()
    write_parquet(plain, tmp_path / "plain.parquet")
    write_parquet(as_columns(plain), tmp_path / "held.parquet")
    assert (tmp_path / "plain.parquet").read_bytes() == (tmp_path / "held.parquet").read_bytes()
    monkeypatch.setattr(files, "LARGE", 100)
    read = read_parquet(tmp_path / "plain.parquet")
    assert isinstance(read.requests, RequestColumns) and read == plain and read.sha256 == plain.sha256
    shared = dataclasses.replace(plain, requests=tuple(dataclasses.replace(r, blocks=(1,)) for r in plain), block_size=1000)
    write_parquet(shared, tmp_path / "shared.parquet")
    assert read_parquet(tmp_path / "shared.parquet") == shared


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("arrival", -1.0, "x.parquet:1: request 1: arrival must be"),
        ("arrival", np.nan, "x.parquet:1: request 1: arrival must be"),
        ("arrival", 9.0, "x.parquet:2 .*arrivals must not decrease"),
        ("output_tokens", 0, "x.parquet:1: request 1: output_tokens must be >= 1"),
        ("request_id", 4, "x.parquet:2 .*request_id 4 appears twice"),
    ],
)
def test_a_bad_row_of_a_large_file_is_named(
    column: str, value: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGE", 100)
    columns = columns_of(trace())
    getattr(columns, column)[0] = value
    with pytest.raises(ValueError, match="these columns are no trace"):
        RequestColumns(columns)
    none: list[list[int]] = [[] for _ in columns.arrival]
    pq.write_table(pa.table({**columns._asdict(), "blocks": none}, schema=files.SCHEMA), tmp_path / "x.parquet")
    with pytest.raises(TraceError, match=message):
        read_parquet(tmp_path / "x.parquet")


def test_empty_columns_are_no_trace() -> None:
    with pytest.raises(ValueError, match="no trace"):
        RequestColumns(Columns._make(column[:0] for column in columns_of(trace())))


def test_a_trace_is_held_as_columns_only_where_they_have_all_of_it() -> None:
    plain = trace(20)
    held = in_columns(plain)
    assert isinstance(held.requests, RequestColumns) and held.sha256 == plain.sha256 and in_columns(held) is held
    one = Request(request_id=0, arrival=0.0, input_tokens=32, output_tokens=4, blocks=(5, 6))
    shared = Trace(name="shared", requests=(one,), block_size=16)
    waits = Trace(name="waits", requests=(*plain.requests[:1], dataclasses.replace(plain.requests[1], after=(1,))))
    assert in_columns(shared) is shared and in_columns(waits) is waits
