"""Rows of a file on their way to a Trace: every error names the file and the line, and says what to do."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workloads.trace import Request, Trace, TraceError, check_requests

INT64 = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one line says, before it is held to what a Request promises (its counts may be 0 still)."""

    line: int  # of the file, for messages
    arrival: float | None  # s; None: the file has no times
    input_tokens: int  # as in Request
    output_tokens: int  # as in Request
    request_id: int | None = None  # None: the file has none; then its place in the trace
    blocks: tuple[int, ...] = ()  # as in Request
    block_size: int | None = None  # as in Trace
    after: tuple[int, ...] = ()  # as in Request
    delay: float = 0.0  # as in Request
    session: int | None = None  # as in Request


def to_trace(path: Path, rows: Iterable[Row], name: str) -> Trace:
    """The rows, in their order, as a Trace (arrival 0 where the file has no times). Raises TraceError naming file and line."""
    requests: list[Request] = []
    lines: list[int] = []
    block_size: int | None = None
    for row in rows:
        where = f"{path}:{row.line}"
        if requests and row.block_size != block_size:
            raise TraceError(f"{where}: block_size is {row.block_size}, before it was {block_size}; a trace has one block_size")
        block_size = row.block_size
        requests.append(_request(where, row, default_id=len(requests)))
        lines.append(row.line)
    if not requests:
        raise TraceError(f"{path}: it has no requests; give a file with at least one row")
    check_requests(requests, block_size, lambda index: f"{path}:{lines[index]}")
    return Trace(name=name, requests=tuple(requests), block_size=block_size)


def _request(where: str, row: Row, default_id: int) -> Request:
    try:
        return Request(
            request_id=default_id if row.request_id is None else row.request_id,
            arrival=row.arrival or 0.0,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            blocks=row.blocks,
            after=row.after,
            delay=row.delay,
            session=row.session,
        )
    except TraceError as error:
        raise TraceError(f"{where}: {error}") from error


@contextmanager
def opened(path: Path, mode: str = "r", *, obtain: str = "give the path of a trace") -> Iterator[IO[Any]]:
    """The open file. Raises TraceError in one line when it is missing, closed to us, or not text; `obtain` says where to get it."""
    try:
        stream = path.open(mode) if "b" in mode else path.open(mode, newline="", encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); {obtain}") from error
    with stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error


def csv_rows(path: Path, *, required: Sequence[str], obtain: str = "give the path of a CSV") -> Iterator[tuple[int, dict[str, str]]]:
    """(line in the file, {column: cell}) of each row of a CSV with a header; blank lines are passed over.

    Raises TraceError for a missing or empty file, a missing column and a row with too few or too many cells.
    """
    with opened(path, obtain=obtain) as stream:
        reader = csv.reader(stream)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            if not header:
                raise TraceError(f"{path}: it is empty; its first line must be {','.join(required)}")
            missing = [column for column in required if column not in header]
            if missing:
                raise TraceError(f"{path}:1: the columns {missing} are missing; the header has {header}")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise TraceError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}: {header}")
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise TraceError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def number(where: str, row: Mapping[str, Any], key: str) -> float:
    """row[key] as a finite float. Raises TraceError."""
    try:
        value = float(row[key])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise TraceError(f"{where}: {key} must be a number, got {row.get(key)!r}")
    return value


def integer(where: str, row: Mapping[str, Any], key: str) -> int:
    """row[key] as an integer of 64 bits; '12', 12 and 12.0 are, 12.5 is not. Raises TraceError."""
    raw = row.get(key)
    try:
        value = int(raw) if isinstance(raw, (int, str)) and not isinstance(raw, bool) else None
    except ValueError:
        value = None
    if value is None and isinstance(raw, (float, str)):
        as_float = number(where, row, key)
        value = int(as_float) if as_float.is_integer() else None
    if value is None or not -INT64 <= value < INT64:
        raise TraceError(f"{where}: {key} must be a whole number, got {raw!r}")
    return value
