"""Run folders on disk or in object storage: a Run to files and back. A folder is immutable: it appears whole, by a rename, or not at all.

root/<run_id>/ holds run.json (everything but the rows), trace.parquet, requests.parquet, tokens.parquet, telemetry.parquet (when the
run has some) and whatever files were handed in (server.log). Every Parquet file but the trace carries run_id, so that DuckDB
can read many folders at once, in place.
"""

import dataclasses
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results import operations
from results.place import Address, Place, download, upload
from results.record import SLO, EngineLimits, RequestRecord, Run
from results.record_table import COLUMNS, RecordTable
from workloads.arrow import arrow, word
from workloads.files import read_parquet, write_parquet
from workloads.trace import TraceError

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

SCHEMA_VERSION = 1
TABLES = ("requests", "tokens", "telemetry")

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
_IN_FILES = ("trace", "records", "telemetry")  # fields of Run that are Parquet files, not part of run.json
_SCALARS = [f.name for f in dataclasses.fields(Run) if f.name not in _IN_FILES]

_REMEDY = "restore the run folder, or delete it and measure again"


class StoreError(RuntimeError):
    """A run folder that cannot be written or read; the message says which, what is wrong, and what to do."""


@overload
def write_run(root: Path, run: Run, files: Mapping[str, Path] | None = None, *, replace: bool = False) -> Path: ...
@overload
def write_run(root: Address, run: Run, files: Mapping[str, Path] | None = None, *, replace: bool = False) -> Address: ...
def write_run(root: Place, run: Run, files: Mapping[str, Path] | None = None, *, replace: bool = False) -> Place:
    """Write `root/<run_id>` and return it. `files` are copied in under the given names, e.g. {'server.log': path}.

    The folder is made under a hidden name, flushed to disk and renamed: after a crash, Ctrl-C or a full disk there is either the whole
    run or nothing. `replace`: a simulated run takes the place of an older one of its id; a measured one never does.
    Raises StoreError (nothing written) for a run_id that exists, or for content that a run may not hold.
    """
    folder = root / run.run_id
    extra = dict(files or {})
    replace = replace and run.kind == "simulated"
    _check_names(folder, run, extra, replace=replace)
    if isinstance(folder, Address):
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            upload(write_run(Path(scratch), run, files), folder, last="run.json")
        return folder
    records = RecordTable.of(run.records)
    tables = _tables(folder, run, records)
    meta = _meta_text(folder, run, {"tokens": pc.sum(records.num_token_times).as_py() or 0, **{n: t.num_rows for n, t in tables.items()}})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _appearing(folder, replace=replace) as scratch:
            (scratch / "run.json").write_text(meta, encoding="utf-8")
            write_parquet(run.trace, scratch / "trace.parquet")
            for name, table in tables.items():
                pq.write_table(table, scratch / f"{name}.parquet", compression="zstd")
            _write_tokens(folder, run.run_id, records, scratch / "tokens.parquet")
            for name, source in extra.items():
                shutil.copyfile(source, scratch / name)
    except OSError as error:
        raise StoreError(f"{folder}: the run could not be written ({_one_line(error)}); nothing was kept; make room, run again") from error
    return folder


def remove_simulated(root: Place, run_id: str) -> None:
    """Remove a simulated run, where there is one of this id. Raises StoreError for a measured one, which is never removed."""
    folder = root / run_id
    if not (folder / "run.json").is_file():
        return
    if read_meta(folder)["kind"] != "simulated":
        raise StoreError(f"{folder}: this is a measured run, which is not removed; delete the folder yourself, if you want to")
    if isinstance(folder, Address):
        for found in sorted(folder.objects(), key=lambda found: found.name != "run.json"):  # without it there is no run
            found.unlink()
        return
    hidden = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def read_run(folder: Place) -> Run:
    """Read what `write_run` wrote: an equal Run. Raises StoreError naming the file and what is wrong with it."""
    if isinstance(folder, Address):
        with near(folder) as copy:
            return read_run(copy)
    meta = read_meta(folder)
    tables = {name: _read_table(folder, name, rows) for name, rows in meta["rows"].items()}
    try:
        trace = read_parquet(folder / "trace.parquet")
    except TraceError as error:
        raise StoreError(f"{error}; {_REMEDY}") from error
    if trace.sha256 != meta["trace_sha256"]:
        raise StoreError(f"{folder}: trace.parquet is not the trace of run.json (sha256 differs); {_REMEDY}")
    fields = {name: meta[name] for name in _SCALARS}
    fields["limits"] = EngineLimits(**fields["limits"])
    fields["slo"] = SLO(**fields["slo"])
    fields["window"] = None if fields["window"] is None else tuple(fields["window"])
    telemetry = tables["telemetry"].drop_columns("run_id").to_pandas() if "telemetry" in tables else None
    try:
        records = tuple(_records(tables["requests"], tables["tokens"]))
        return Run(trace=trace, records=records, telemetry=telemetry, **fields)
    except (ValueError, TypeError) as error:
        raise StoreError(f"{folder}: its files do not make a run: {_one_line(error)}; {_REMEDY}") from error


@contextmanager
def near(folder: Place) -> Iterator[Path]:
    """The run folder on this machine: itself, or a copy for as long as the block lasts. Raises StoreError, PlaceError."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        yield download(folder, Path(scratch) / folder.name)


def read_meta(folder: Place) -> dict[str, Any]:
    """The content of run.json, its form checked. Raises StoreError."""
    path = folder / "run.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{folder}: no run.json, so this is not a run folder; move it out of {folder.parent}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as JSON ({_one_line(error)}); {_REMEDY}") from error
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema_version {version}, but this Plumbline reads {SCHEMA_VERSION}; measure again")
    wanted = {*_SCALARS, "schema_version", "trace_sha256", "rows"}
    if meta.keys() != wanted:
        lacking, unknown = sorted(wanted - meta.keys()), sorted(meta.keys() - wanted)
        raise StoreError(f"{path}: it lacks the keys {lacking} and has unknown keys {unknown}; {_REMEDY}")
    if meta["run_id"] != folder.name:
        raise StoreError(f"{path}: run_id is {meta['run_id']}, the folder is {folder.name}; give the folder its run_id's name")
    return meta


def check_files(folder: Place, meta: Mapping[str, Any]) -> None:
    """See from their footers that the folder's Parquet files are there, of the right form and length. Raises StoreError."""
    for name in (*meta["rows"], "trace"):
        path = folder / f"{name}.parquet"
        try:
            with pq.ParquetFile(path if isinstance(path, Path) else path.open()) as file:
                if name in SCHEMAS:
                    _check_form(path, file.schema_arrow, file.metadata.num_rows, SCHEMAS[name], meta["rows"][name])
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: cannot be read ({_one_line(error)}); {_REMEDY}") from error


@overload
def run_folders(root: Path) -> list[Path]: ...
@overload
def run_folders(root: Address) -> list[Address]: ...
def run_folders(root: Place) -> list[Path] | list[Address]:
    """The run folders in `root`, by name: every folder that is not hidden (half-written ones are), nor that of operation times.

    [] when there is no such root.
    In object storage a half-written one lacks its run.json. Raises PlaceError when that cannot be reached.
    """
    if isinstance(root, Address):
        return [found.parent for found in root.objects() if found.name == "run.json" and found.parent.parent == root]
    folders = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")] if root.is_dir() else []
    return sorted(p for p in folders if p.name != operations.FOLDER)


def _check_names(folder: Place, run: Run, files: Mapping[str, Path], *, replace: bool) -> None:
    if not run.run_id or run.run_id.startswith(".") or Path(run.run_id).name != run.run_id:
        raise StoreError(f"run_id {run.run_id!r} cannot name a folder; use letters, digits, '-', '_', '.' and no leading dot")
    if (folder.exists() if isinstance(folder, Path) else (folder / "run.json").is_file()) and not replace:
        raise StoreError(f"{folder}: this run exists and is not overwritten; give the new one another run_id or delete the folder")
    reserved = {"run.json", "trace.parquet", *(f"{name}.parquet" for name in TABLES)}
    for name, source in files.items():
        if Path(name).name != name or name in reserved:
            raise StoreError(f"{folder}: a file cannot be kept under the name {name!r}; use a plain name that the run itself does not use")
        if not source.is_file():
            raise StoreError(f"{folder}: the file {source} to be kept as {name} does not exist")


def _meta_text(folder: Path, run: Run, rows: Mapping[str, int]) -> str:
    meta: dict[str, Any] = {name: getattr(run, name) for name in _SCALARS}
    meta |= {"limits": dataclasses.asdict(run.limits), "slo": dataclasses.asdict(run.slo)}
    meta |= {"schema_version": SCHEMA_VERSION, "trace_sha256": run.trace.sha256, "rows": dict(rows)}
    try:
        return json.dumps(meta, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    except TypeError as error:
        raise StoreError(f"{folder}: config or provenance is not plain JSON: {error}; hand in dicts, lists, strings and numbers") from error


def _tables(folder: Path, run: Run, records: RecordTable) -> dict[str, pa.Table]:
    """All but the tokens."""
    columns = {f.name: records.columns[f.name].combine_chunks() for f in COLUMNS}
    parts: dict[str, Mapping[str, Any]] = {"requests": columns | {"num_token_times": records.num_token_times}}
    if run.telemetry is not None:
        parts["telemetry"] = _telemetry_columns(folder, run.telemetry)
    for name in _TIMES:
        _check_finite(folder, name, columns[name])
    return {name: _table(run.run_id, part, SCHEMAS[name]) for name, part in parts.items()}


def _write_tokens(folder: Path, run_id: str, records: RecordTable, path: Path) -> None:
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


def _read_table(folder: Path, name: str, rows: int) -> pa.Table:
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({_one_line(error)}); {_REMEDY}") from error
    _check_form(path, table.schema, table.num_rows, SCHEMAS[name], rows)
    return table


def _check_form(path: Place, schema: pa.Schema, rows: int, wanted: pa.Schema, wanted_rows: int) -> None:
    if not schema.equals(wanted):
        raise StoreError(f"{path}: its columns are not those of schema_version {SCHEMA_VERSION}; {_REMEDY}")
    if rows != wanted_rows:
        raise StoreError(f"{path}: it has {rows} rows, run.json promises {wanted_rows}; {_REMEDY}")


def _records(requests: pa.Table, tokens: pa.Table) -> Iterator[RequestRecord]:
    times = tokens["time"].to_numpy().tolist()
    start = 0
    for row in requests.drop_columns("run_id").to_pylist():
        count = row.pop("num_token_times")
        token_times = None if count is None else tuple(times[start : start + count])
        start += count or 0
        yield RequestRecord(token_times=token_times, **row)
    if start != len(times):
        raise ValueError(f"requests.parquet promises {start} token times, tokens.parquet has {len(times)}")


@contextmanager
def _appearing(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A hidden folder beside `folder` that becomes it when the block ends well, and is gone when it does not."""
    hidden = f".{folder.name}.{uuid.uuid4().hex[:8]}"
    scratch, old = folder.with_name(f"{hidden}.tmp"), folder.with_name(f"{hidden}.old")
    scratch.mkdir()
    try:
        yield scratch
        sync([*scratch.iterdir(), scratch])
        if replace and folder.exists():
            folder.rename(old)
        scratch.rename(folder)  # fails when another process has written this run_id meanwhile: a run folder is never empty
        sync([folder.parent])
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (scratch, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Place, text: str) -> None:
    """Write a file, and the folder for it, whole or not at all. Raises OSError, PlaceError."""
    if isinstance(path, Address):
        path.write_bytes(text.encode())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        sync([scratch])
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def sync(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk. Raises OSError."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
