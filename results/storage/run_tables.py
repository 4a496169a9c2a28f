"""A run's tables: their columns in Parquet, made of records and read into them, their form checked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.record import RequestRecord, Run
from results.record_table import COLUMNS, LATER, RecordTable, with_later
from results.storage.place import Place
from workloads.arrow import arrow, word

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

SCHEMA_VERSION = 1

_TIMES = ("arrival", "sent", "scheduled", "first_token", "finished")
_RUN_ID = pa.field("run_id", pa.dictionary(pa.int32(), pa.string()), nullable=False)
SCHEMAS = {
    # num_token_times: rows of this request in tokens.parquet; NULL when the system shows no token times, 0 when there were none
    "requests": pa.schema([_RUN_ID, *COLUMNS, pa.field("num_token_times", pa.int64())]),
    "tokens": pa.schema(
        [
            _RUN_ID,
            pa.field("request_id", pa.int64(), nullable=False),
            pa.field("token_index", pa.int32(), nullable=False),
            pa.field("time", pa.float64(), nullable=False),
        ]
    ),
    "telemetry": pa.schema(
        [
            _RUN_ID,
            pa.field("time", pa.float64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("value", pa.float64()),
        ]
    ),
}
FIRST_FORMS = {"requests": pa.schema([field for field in SCHEMAS["requests"] if field.name not in LATER])}  # of tables that grew since

REMEDY = "restore the run folder, or delete it and measure again"


class StoreError(RuntimeError):
    """A run folder that cannot be written or read; the message says which, what is wrong, and what to do."""


def check_files(folder: Place, meta: Mapping[str, Any]) -> None:
    """See from their footers that the folder's Parquet files are there, of the right form and length. Raises StoreError."""
    for name in (*meta["rows"], "trace"):
        path = folder / f"{name}.parquet"
        try:
            with pq.ParquetFile(path if isinstance(path, Path) else path.open()) as file:
                if name in SCHEMAS:
                    _check_form(path, file.schema_arrow, file.metadata.num_rows, name, meta["rows"][name])
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: cannot be read ({one_line(error)}); {REMEDY}") from error


def tables_of(folder: Path, run: Run, records: RecordTable) -> dict[str, pa.Table]:
    """All tables of a run but the tokens."""
    columns = {f.name: records.columns[f.name].combine_chunks() for f in COLUMNS}
    parts: dict[str, Mapping[str, Any]] = {"requests": columns | {"num_token_times": records.num_token_times}}
    if run.telemetry is not None:
        parts["telemetry"] = _telemetry_columns(folder, run.telemetry)
    for name in _TIMES:
        _check_finite(folder, name, columns[name])
    return {name: _table(run.run_id, part, SCHEMAS[name]) for name, part in parts.items()}


def write_tokens(folder: Path, run_id: str, records: RecordTable, path: Path) -> None:
    """tokens.parquet, piece by piece: a large run's token times are never in memory together."""
    with pq.ParquetWriter(path, SCHEMAS["tokens"], compression="zstd") as writer:
        for piece in records.tokens():
            _check_finite(folder, "a token's time", piece["time"])
            columns = {name: piece[name].combine_chunks() for name in piece.column_names}
            writer.write_table(_table(run_id, columns, SCHEMAS["tokens"]))


def _check_finite(folder: Path, name: str, column: pa.Array) -> None:
    if not pc.all(pc.is_finite(column.drop_null()), min_count=0).as_py():
        raise StoreError(f"{folder}: {name} of a record is NaN or infinite; an unknown time is None")


def _telemetry_columns(folder: Path, frame: "pd.DataFrame") -> dict[str, Any]:
    if list(frame.columns) != ["time", "name", "value"]:
        raise StoreError(f"{folder}: telemetry needs the columns time, name, value in this order, got {list(frame.columns)}")
    return {column: frame[column].to_numpy() for column in frame.columns}


def _table(run_id: str, columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    length = len(next(iter(columns.values())))
    run_ids = pa.DictionaryArray.from_arrays(arrow(np.zeros(length, dtype=np.int32)), word(run_id))
    return pa.table([run_ids, *(_column(columns[f.name], f.type) for f in list(schema)[1:])], schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)


def read_table(folder: Path, name: str, rows: int) -> pa.Table:
    """The folder's table of this name. Raises StoreError when it cannot be read or is not of the promised form and length."""
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({one_line(error)}); {REMEDY}") from error
    _check_form(path, table.schema, table.num_rows, name, rows)
    return in_present_form(table, name)


def in_present_form(table: pa.Table, name: str) -> pa.Table:
    """The table of this name with all columns of today; those that it lacks are NULL."""
    return with_later(table).select(SCHEMAS[name].names) if name in FIRST_FORMS else table


def _check_form(path: Place, schema: pa.Schema, rows: int, name: str, wanted_rows: int) -> None:
    if not (schema.equals(SCHEMAS[name]) or schema.equals(FIRST_FORMS.get(name, SCHEMAS[name]))):
        raise StoreError(f"{path}: its columns are not those of schema_version {SCHEMA_VERSION}; {REMEDY}")
    if rows != wanted_rows:
        raise StoreError(f"{path}: it has {rows} rows, run.json promises {wanted_rows}; {REMEDY}")


def records_of(requests: pa.Table, tokens: pa.Table) -> Iterator[RequestRecord]:
    """The records of these two tables, in their order. Raises ValueError when the tables do not fit each other."""
    times = tokens["time"].to_numpy().tolist()
    start = 0
    for row in requests.drop_columns("run_id").to_pylist():
        count = row.pop("num_token_times")
        token_times = None if count is None else tuple(times[start : start + count])
        start += count or 0
        yield RequestRecord(token_times=token_times, **row)
    if start != len(times):
        raise ValueError(f"requests.parquet promises {start} token times, tokens.parquet has {len(times)}")


def one_line(error: BaseException) -> str:
    """An error's words, for the inside of a sentence."""
    return " ".join(str(error).split())
