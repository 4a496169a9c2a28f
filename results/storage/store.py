"""Run folders on disk or in object storage: a Run to files and back. A folder is immutable: it appears whole, by a rename, or not at all.

root/<run_id>/ holds run.json (everything but the rows), trace.parquet, requests.parquet, tokens.parquet, telemetry.parquet (when the
run has some) and whatever files were handed in (server.log). Every Parquet file but the trace carries run_id, so that DuckDB
can read many folders at once, in place.
"""

import dataclasses
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow.compute as pc
import pyarrow.parquet as pq

from results import operations
from results.record import SLO, EngineLimits, Run
from results.record_table import RecordTable
from results.storage.durable import appearing
from results.storage.place import Address, Place, download, upload
from results.storage.run_tables import REMEDY, SCHEMA_VERSION, StoreError, one_line, read_table, records_of, tables_of, write_tokens
from workloads.files import read_parquet, write_parquet
from workloads.trace import TraceError

if TYPE_CHECKING:  # pandas takes long to import
    pass

TABLES = ("requests", "tokens", "telemetry")

_IN_FILES = ("trace", "records", "telemetry")  # fields of Run that are Parquet files, not part of run.json
_SCALARS = [f.name for f in dataclasses.fields(Run) if f.name not in _IN_FILES]


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
    tables = tables_of(folder, run, records)
    meta = _meta_text(folder, run, {"tokens": pc.sum(records.num_token_times).as_py() or 0, **{n: t.num_rows for n, t in tables.items()}})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with appearing(folder, replace=replace) as scratch:
            (scratch / "run.json").write_text(meta, encoding="utf-8")
            write_parquet(run.trace, scratch / "trace.parquet")
            for name, table in tables.items():
                pq.write_table(table, scratch / f"{name}.parquet", compression="zstd")
            write_tokens(folder, run.run_id, records, scratch / "tokens.parquet")
            for name, source in extra.items():
                shutil.copyfile(source, scratch / name)
    except OSError as error:
        raise StoreError(f"{folder}: the run could not be written ({one_line(error)}); nothing was kept; make room, run again") from error
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
    tables = {name: read_table(folder, name, rows) for name, rows in meta["rows"].items()}
    try:
        trace = read_parquet(folder / "trace.parquet")
    except TraceError as error:
        raise StoreError(f"{error}; {REMEDY}") from error
    if trace.sha256 != meta["trace_sha256"]:
        raise StoreError(f"{folder}: trace.parquet is not the trace of run.json (sha256 differs); {REMEDY}")
    fields = {name: meta[name] for name in _SCALARS}
    fields["limits"] = EngineLimits(**fields["limits"])
    fields["slo"] = SLO(**fields["slo"])
    fields["window"] = None if fields["window"] is None else tuple(fields["window"])
    telemetry = tables["telemetry"].drop_columns("run_id").to_pandas() if "telemetry" in tables else None
    try:
        records = tuple(records_of(tables["requests"], tables["tokens"]))
        return Run(trace=trace, records=records, telemetry=telemetry, **fields)
    except (ValueError, TypeError) as error:
        raise StoreError(f"{folder}: its files do not make a run: {one_line(error)}; {REMEDY}") from error


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
        raise StoreError(f"{path}: cannot be read as JSON ({one_line(error)}); {REMEDY}") from error
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema_version {version}, but this Plumbline reads {SCHEMA_VERSION}; measure again")
    wanted = {*_SCALARS, "schema_version", "trace_sha256", "rows"}
    if meta.keys() != wanted:
        lacking, unknown = sorted(wanted - meta.keys()), sorted(meta.keys() - wanted)
        raise StoreError(f"{path}: it lacks the keys {lacking} and has unknown keys {unknown}; {REMEDY}")
    if meta["run_id"] != folder.name:
        raise StoreError(f"{path}: run_id is {meta['run_id']}, the folder is {folder.name}; give the folder its run_id's name")
    return meta


@overload
def run_folders(root: Path) -> list[Path]: ...
@overload
def run_folders(root: Address) -> list[Address]: ...
def run_folders(root: Place) -> list[Path] | list[Address]:
    """The run folders in `root`, by name: every folder but hidden ones (a half-written run is hidden) and that of operation times.

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
