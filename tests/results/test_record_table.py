"""RecordTable: columns that read as the records they stand for, in memory and on disk."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from results.record import RequestRecord
from results.record_table import RecordTable
from results.storage.store import read_run, write_run
from results.token_times import PIECE, TokenTimes
from tests.runs import make_run
from workloads.arrow import arrow, numpy


def test_columns_read_as_the_records() -> None:
    records = make_run(failures=(3, 7)).records
    table = RecordTable.of(records)
    assert list(table) == list(records) and table == records
    assert table[-1] == records[-1] and table[2:5] == tuple(records[2:5])
    assert table.request_ids.tolist() == [r.request_id for r in records]
    with pytest.raises(IndexError):
        table[len(records)]
    assert table != [dataclasses.replace(records[0], arrival=99.0), *records[1:]]


def test_a_run_of_columns_is_stored_as_one_of_records(tmp_path: Path) -> None:
    run = make_run(failures=(3,))
    written = [
        write_run(tmp_path / name, dataclasses.replace(run, records=records))
        for name, records in (("objects", run.records), ("columns", RecordTable.of(run.records)))
    ]
    assert {p.name for p in written[0].iterdir()} == {p.name for p in written[1].iterdir()}
    for path in written[0].iterdir():
        assert path.read_bytes() == (written[1] / path.name).read_bytes(), path.name
    assert list(read_run(written[1]).records) == list(run.records)


def test_a_run_of_other_ids_is_refused() -> None:
    run = make_run()
    others = [dataclasses.replace(r, request_id=r.request_id + 1) for r in run.records]
    with pytest.raises(ValueError, match="missing ids"):
        dataclasses.replace(run, records=RecordTable.of(others))


def test_token_times_of_a_common_clock() -> None:
    """Record 0: two runs with a gap; record 1: none; record 2: one."""
    clock = np.array([1.0, 2.0, 3.0, 5.0, 8.0])
    runs = {"record": [0, 0, 2], "start": [0, 3, 1], "length": [2, 2, 3]}
    times = TokenTimes(records=3, clock=clock, shift=0.5, **{k: np.array(v) for k, v in runs.items()})
    assert times.counts.tolist() == [4, 0, 3]
    assert times.between(0, 1).tolist() == [1.5, 2.5, 5.5, 8.5] and times.between(1, 2).tolist() == []
    ((record, index, time),) = times.pieces()
    assert (record.tolist(), index.tolist()) == ([0] * 4 + [2] * 3, [0, 1, 2, 3, 0, 1, 2])
    assert time.tolist() == [1.5, 2.5, 5.5, 8.5, 2.5, 3.5, 5.5]


def test_pieces_are_small_and_whole() -> None:
    lengths = np.array([PIECE // 2, PIECE // 2, 3, PIECE + 5, 0, 4])
    records = np.arange(6)
    times = TokenTimes(records=6, clock=np.arange(2.0 * PIECE), record=records, start=np.zeros(6, np.int64), length=lengths)
    pieces = list(times.pieces())
    assert [len(p[0]) for p in pieces] == [PIECE, 3, PIECE + 5, 4]
    assert np.array_equal(np.concatenate([p[0] for p in pieces]), np.repeat(records, lengths))
    assert np.array_equal(np.concatenate([p[1] for p in pieces]), np.concatenate([np.arange(n) for n in lengths]))


def test_no_token_times(tmp_path: Path) -> None:
    record = RequestRecord(request_id=0, arrival=0.0, sent=0.0, first_token=1.0, finished=2.0, output_tokens=5)
    table = RecordTable(RecordTable.of([record]).columns, None)
    assert list(table) == [record] and table.num_token_times.to_pylist() == [None]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64])
def test_arrow_is_what_pyarrow_makes(dtype: type) -> None:
    values: NDArray[Any] = np.arange(21).astype(dtype)[::2]
    null = np.arange(11) % 3 == 0
    assert arrow(values) == pa.array(values) and arrow(values, null=null) == pa.array(values, mask=null)
    assert arrow(values, null=null).null_count == 4 and len(arrow(values[:0])) == 0
    for column in (pa.chunked_array([arrow(values)]), pa.chunked_array([arrow(values[:4]), arrow(values[4:])]).slice(3, 5)):
        assert numpy(column).tolist() == column.to_pylist()
    assert len(numpy(pa.chunked_array([], pa.int64()))) == 0
