"""The plain form of a recorded run, which anyone can write: requests in CSV or JSONL, YAML or JSON beside it (docs/importing.md)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results.record import RequestRecord
from results.recordings.about import NEEDED, Given, described, read_about, unknown_limits
from results.recordings.recording import Recording, RecordingError, check_order, object_rows, optional_number, sha256
from workloads.rows import Row, integer, number, opened

NAME = "the plain form of docs/importing.md (CSV or JSONL)"
REQUIRED = ("arrival", "input_tokens", "output_tokens")
COLUMNS = ("request_id", *REQUIRED, "sent", "scheduled", "first_token", "finished", "cached_tokens", "error", "blocks")
BEGINS = re.compile(rf"\b({'|'.join(REQUIRED)})\b")  # one of them, so that a misspelt name of another is told
HEAD = 1 << 16  # characters of the first line that are looked at
SUFFIXES = (".yaml", ".yml", ".json")


def is_plain(path: Path) -> bool:
    """Whether the file begins as one of this form, with a name that every row needs; or is empty, so that it says nothing else."""
    with opened(path) as stream:
        line = stream.readline(HEAD)
    return not line or BEGINS.search(line) is not None


def sidecar_of(requests: Path) -> Path:
    """The file that says what was measured: of requests.csv in a folder run.yaml (.yml, .json), or the file's own name with that suffix."""
    candidates = [requests.with_suffix(suffix) for suffix in SUFFIXES]
    if requests.stem == "requests":
        candidates = [requests.with_name(f"run{suffix}") for suffix in SUFFIXES] + candidates
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise RecordingError(f"{requests}: no {candidates[0].name} beside it; write one (docs/importing.md), or give it with --about")


def read_plain(requests: Path, given: Given) -> Recording:
    """Read the form; given.about: its sidecar (None: found beside it). Raises RecordingError or TraceError: one line, with file and row."""
    about = given.about or sidecar_of(requests)
    said = read_about(about, given)
    missing = [key for key in NEEDED if key not in said]
    if missing:
        raise RecordingError(f"{about}: {', '.join(missing)} missing; docs/importing.md says what each is")
    rows = list(object_rows(requests, required=REQUIRED, known=COLUMNS))
    has_sent = any("sent" in cells for _, cells in rows)
    block_size = integer(str(about), said, "block_size") if "block_size" in said else None
    fields = described(str(about), said)
    return Recording(
        path=requests,
        requests=tuple(_requests(requests, rows, block_size, has_sent=has_sent)),
        form="plain (docs/importing.md)",
        workload={"name": str(said.get("workload", requests.parent.name if requests.stem == "requests" else requests.stem))},
        files={file.name: sha256(file) for file in (requests, about)},
        assumed={} if has_sent else {"sent": "no such column: every request is taken to be sent at its arrival"},
        provenance={key: said[key] for key in ("notes", "load") if key in said},
        not_recorded=unknown_limits(fields["limits"]),
        **fields,
    )


def _requests(
    path: Path, rows: list[tuple[int, dict[str, Any]]], block_size: int | None, *, has_sent: bool
) -> Iterator[tuple[Row, RequestRecord]]:
    for place, (line, cells) in enumerate(rows):
        where = f"{path}:{line}"
        times = {name: optional_number(where, cells, name) for name in ("sent", "scheduled", "first_token", "finished")}
        row = Row(
            line=line,
            request_id=place if cells.get("request_id") is None else integer(where, cells, "request_id"),
            arrival=number(where, cells, "arrival"),
            input_tokens=integer(where, cells, "input_tokens"),
            output_tokens=integer(where, cells, "output_tokens"),
            blocks=_blocks(where, cells.get("blocks")),
            block_size=block_size,
        )
        if not has_sent:
            times["sent"] = row.arrival
        yield row, _record(where, row, times, cells)


def _record(where: str, row: Row, times: Mapping[str, float | None], cells: Mapping[str, Any]) -> RequestRecord:
    assert row.arrival is not None and row.request_id is not None
    error = None if cells.get("error") is None else str(cells["error"])
    lacking = [name for name in ("sent", "finished") if times[name] is None]
    if lacking and error is None:
        raise RecordingError(f"{where}: {' and '.join(lacking)} missing, and no error says why; fill it in, or give the row an error")
    check_order(where, {"arrival": row.arrival, **times})
    cached = None if cells.get("cached_tokens") is None else integer(where, cells, "cached_tokens")
    if cached is not None and not 0 <= cached <= row.input_tokens:
        raise RecordingError(f"{where}: cached_tokens must be 0 to input_tokens ({row.input_tokens}), got {cached}")
    return RequestRecord(
        request_id=row.request_id,
        arrival=row.arrival,
        input_tokens=row.input_tokens if error is None else None,
        output_tokens=row.output_tokens if error is None else None,
        cached_tokens=cached,
        error=error,
        sent=times["sent"],
        scheduled=times["scheduled"],
        first_token=times["first_token"],
        finished=times["finished"],
    )


def _blocks(where: str, cell: Any) -> tuple[int, ...]:
    """Block ids: a list (JSONL), or numbers parted by spaces (CSV)."""
    ids = [] if cell is None else cell.split() if isinstance(cell, str) else cell
    if not isinstance(ids, list):
        raise RecordingError(f"{where}: blocks must be a list of block ids, got {cell!r}")
    return tuple(integer(where, {"blocks": block}, "blocks") for block in ids)
