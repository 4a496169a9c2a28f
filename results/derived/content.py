"""What a database holds of one run folder. Read `content_of` first: a folder in, its rows and metrics out."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from results.cells import cell_of, configuration_of, study_of
from results.derived.folders import RunFolder, digest_of
from results.derived.values import OrderError, Values, values_of
from results.live import NO_TOKENS
from results.storage.place import Place
from results.storage.run_tables import REMEDY, StoreError, check_files, in_present_form, one_line
from results.storage.store import near, read_meta


@dataclass(frozen=True, kw_only=True)
class Content:
    """Rows of the tables of schema.sql: those of one run. run: of `runs`; trace: of `trace_requests`, by the trace's sha256."""

    folder: RunFolder
    digest: str
    run: Mapping[str, Any]
    requests: pa.Table
    telemetry: pa.Table | None
    trace: pa.Table
    values: Values


def content_of(folder: RunFolder, known_values: Mapping[str, Values]) -> Content:
    """Read a run folder and compute its metrics. known_values: those that were computed of a run before, by its digest.

    A run in object storage is fetched once. Raises StoreError, PlaceError naming the file and what is wrong with it.
    """
    with near(folder.place) as path:
        meta = read_meta(path)
        check_files(path, meta)
        try:
            digest = digest_of(path)
            requests = in_present_form(_read(path / "requests.parquet"), "requests")
            return Content(
                folder=folder,
                digest=digest,
                run=_run_row(folder.place, meta),
                requests=requests,
                telemetry=_read(path / "telemetry.parquet") if "telemetry" in meta["rows"] else None,
                trace=_read(path / "trace.parquet"),
                values=known_values[digest] if digest in known_values else values_of(meta, requests, path / "tokens.parquet"),
            )
        except (duckdb.Error, OrderError) as error:
            raise StoreError(f"{folder.place}/tokens.parquet: cannot be read ({one_line(error)}); {REMEDY}") from error
        except OSError as error:
            raise StoreError(f"{folder.place}: cannot be read ({one_line(error)}); {REMEDY}") from error


def tokens_view(folders: Mapping[str, Place]) -> str:
    """SQL of the view `tokens` over the files of these runs, by run_id."""
    places = (str(place.absolute() if isinstance(place, Path) else place) for place in folders.values())
    files = ", ".join("'{}/tokens.parquet'".format(place.replace("'", "''")) for place in places)
    source = f"read_parquet([{files}], hive_partitioning = false)" if folders else f"(SELECT NULL::VARCHAR AS run_id, * FROM {NO_TOKENS})"
    return f"CREATE OR REPLACE VIEW tokens AS SELECT run_id, request_id, token_index, time FROM {source}"


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({one_line(error)}); {REMEDY}") from error


def _run_row(place: Place, meta: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `runs`. Cell and configuration are those of a measured run; a simulated one takes its measured run's."""
    fields = {k: v for k, v in meta.items() if k not in ("limits", "slo", "window", "rows", "schema_version", "config", "provenance")}
    window, measured = meta["window"] or (None, None), meta["kind"] == "measured"
    return {
        **fields,
        **meta["limits"],
        **{f"slo_{name}": limit for name, limit in meta["slo"].items()},
        "study": study_of(meta),
        "cell": cell_of(meta) if measured else None,
        "configuration": configuration_of(meta) if measured else None,
        "started_at": _utc(place, meta["started_at"]),
        "window_start": window[0],
        "window_end": window[1],
        "config": json.dumps(_strict(meta["config"])),
        "provenance": json.dumps(_strict(meta["provenance"])),
        "path": str(place),
    }


def _utc(place: Place, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise StoreError(f"{place}/run.json: started_at must be an ISO 8601 time, got {text!r}; correct it") from error
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _strict(value: Any) -> Any:
    """The value, with infinite and undefined numbers as strings: DuckDB takes strict JSON only, which has no such numbers."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value
