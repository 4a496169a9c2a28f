"""A Trace to and from Parquet (all of it) and plain CSV (what a person writes by hand). Writers replace the file in one step."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workloads.arrow import arrow
from workloads.columns import RequestColumns, columns_of, well_formed
from workloads.rows import Row, csv_rows, integer, number, opened, to_trace
from workloads.trace import Columns, Trace, TraceError

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("arrival", pa.float64(), nullable=False),
        pa.field("input_tokens", pa.int64(), nullable=False),
        pa.field("output_tokens", pa.int64(), nullable=False),
        pa.field("blocks", pa.list_(pa.int64()), nullable=False),
    ]
)
# further columns, of a trace with sessions only
SESSIONS = (
    pa.field("after", pa.list_(pa.int64()), nullable=False),
    pa.field("delay", pa.float64(), nullable=False),
    pa.field("session", pa.int64()),
)
LARGE = 50_000  # rows of a Parquet file from which on its requests are held as columns
METADATA_KEY = b"plumbline"


def write_parquet(trace: Trace, path: Path) -> None:
    """Write the trace; its name and block_size go into the file's metadata. Raises OSError when the disk is full or closed to us."""
    import pyarrow.parquet as pq  # here: it takes long to import, and CSV needs none of it

    blocks = pa.array([r.blocks for r in trace], SCHEMA.field("blocks").type) if trace.block_size else _no_blocks(len(trace))
    columns = {name: arrow(of) for name, of in columns_of(trace)._asdict().items()} | {"blocks": blocks}
    schema = SCHEMA
    if trace.has_sessions:
        schema = pa.schema([*SCHEMA, *SESSIONS])
        columns |= {field.name: pa.array([getattr(r, field.name) for r in trace], field.type) for field in SESSIONS}
    metadata = {METADATA_KEY: json.dumps({"name": trace.name, "block_size": trace.block_size})}
    with _replacing(path) as scratch:
        pq.write_table(pa.table([columns[f.name] for f in schema], schema=schema.with_metadata(metadata)), scratch, compression="zstd")


def read_parquet(path: Path) -> Trace:
    """Read what `write_parquet` wrote: an equal Trace. Raises TraceError naming the file and the row (the first is 1)."""
    import pyarrow.parquet as pq  # here: see write_parquet

    with opened(path, "rb") as stream:
        try:
            table = pq.ParquetFile(stream).read()  # read_table imports pandas, which takes long
        except (pa.ArrowException, OSError) as error:
            raise TraceError(f"{path}: not a whole Parquet file ({_one_line(error)}); write it again") from error
    missing = [column for column in SCHEMA.names if column not in table.column_names]
    if missing:
        raise TraceError(f"{path}: the columns {missing} are missing; it has {table.column_names}")
    metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    table = _columns_checked(path, table)
    if len(table) >= LARGE and "after" not in table.column_names and (large := _large(table)) is not None:
        return Trace(name=metadata.get("name", path.stem), requests=large, block_size=metadata.get("block_size"))
    values: list[dict[str, Any]] = table.to_pylist()
    rows = (
        Row(line=line, block_size=metadata.get("block_size"), **{name: _hashable(value) for name, value in row.items()})
        for line, row in enumerate(values, 1)
    )
    return to_trace(path, rows, metadata.get("name", path.stem))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _no_blocks(requests: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(arrow(np.zeros(requests + 1, np.int32)), arrow(np.empty(0, np.int64)))


def _large(table: pa.Table) -> RequestColumns | None:
    """The requests, held as columns; None when they have blocks or are no trace (then each row is looked at, to say which)."""
    columns = Columns(*(table[name].to_numpy() for name in Columns._fields))
    blocks = sum(len(chunk.flatten()) for chunk in table["blocks"].chunks)
    return RequestColumns(columns) if not blocks and well_formed(columns) else None


def write_csv(trace: Trace, path: Path) -> None:
    """Write plain CSV: request_id, arrival (s), input_tokens, output_tokens; with a block_size also blocks ('3 4 5') and block_size,
    with sessions also session, after ('0 1') and delay (s).
    """
    columns = ["request_id", "arrival", "input_tokens", "output_tokens", *(["blocks", "block_size"] if trace.block_size else [])]
    columns += ["session", "after", "delay"] if trace.has_sessions else []
    with _replacing(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for r in trace:
            blocks = [" ".join(map(str, r.blocks)), trace.block_size] if trace.block_size else []
            number = "" if r.session is None else r.session
            waits = [number, " ".join(map(str, r.after)), repr(float(r.delay))] if trace.has_sessions else []
            writer.writerow([r.request_id, repr(float(r.arrival)), r.input_tokens, r.output_tokens, *blocks, *waits])


def read_csv(path: Path, *, name: str | None = None) -> Trace:
    """Read plain CSV into a Trace called `name` (default: the file's). Raises TraceError naming the file and the line."""
    return to_trace(path, plain_rows(path), path.stem if name is None else name)


def plain_rows(path: Path) -> Iterator[Row]:
    """The rows of plain CSV with a header. Columns: arrival (s since the trace's start), input_tokens, output_tokens; optional:
    request_id (default: the row's place, from 0), blocks (ids parted by spaces) with block_size (tokens, the same in every row), and of
    sessions: session (its number), after (ids of the requests before it that must have ended, parted by spaces), delay (s after that).
    """
    for line, cells in csv_rows(path, required=("arrival", "input_tokens", "output_tokens")):
        where = f"{path}:{line}"
        yield Row(
            line=line,
            request_id=integer(where, cells, "request_id") if "request_id" in cells else None,
            arrival=number(where, cells, "arrival"),
            input_tokens=integer(where, cells, "input_tokens"),
            output_tokens=integer(where, cells, "output_tokens"),
            blocks=tuple(integer(where, {"blocks": block}, "blocks") for block in cells.get("blocks", "").split()),
            block_size=integer(where, cells, "block_size") if cells.get("block_size") else None,
            after=tuple(integer(where, {"after": other}, "after") for other in cells.get("after", "").split()),
            delay=number(where, cells, "delay") if cells.get("delay") else 0.0,
            session=integer(where, cells, "session") if cells.get("session") else None,
        )


def _columns_checked(path: Path, table: pa.Table) -> pa.Table:
    """The table's columns cast to SCHEMA; nulls are told by row."""
    columns = []
    schema = pa.schema([*SCHEMA, *(field for field in SESSIONS if field.name in table.column_names)])
    for field in schema:
        column = table.column(field.name)
        if column.null_count and not field.nullable:
            row = column.is_null().to_pylist().index(True) + 1
            raise TraceError(f"{path}:{row}: {field.name} is missing; give every request one")
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise TraceError(f"{path}: column {field.name} must be {field.type}, not {column.type} ({_one_line(error)})") from error
    return pa.table(columns, schema=schema)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place at the end, or goes away."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
