"""Rows of a foreign file into a Trace: every error names the file and the line, and says what to do."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from workloads.trace import Request, Trace, TraceError, check_requests

INT64 = 1 << 63


@dataclass
class Rows:
    """Collects a file's requests with the lines they came from. `path` is for the error messages."""

    path: Path
    requests: list[Request] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.requests)

    def add(self, line: int, *, request_id: int, arrival: float, input_tokens: int, output_tokens: int, blocks: Sequence[int] = ()) -> None:
        """Add the request of one line. Raises TraceError naming the file and the line when it cannot be one."""
        try:
            request = Request(
                request_id=request_id, arrival=arrival, input_tokens=input_tokens, output_tokens=output_tokens, blocks=tuple(blocks)
            )
        except TraceError as error:
            raise TraceError(f"{self.path}:{line}: {error}") from error
        self.requests.append(request)
        self.lines.append(line)

    def trace(self, name: str, block_size: int | None = None) -> Trace:
        """The rows as a Trace, in their order."""
        if not self.requests:
            raise TraceError(f"{self.path}: it has no requests; give a file with at least one row")
        check_requests(self.requests, block_size, lambda index: f"{self.path}:{self.lines[index]}")
        return Trace(name=name, requests=tuple(self.requests), block_size=block_size)


@contextmanager
def opened(path: Path, mode: str = "r") -> Iterator[IO[Any]]:
    """The open file. Raises TraceError in one line when it is missing, closed to us, or not text."""
    try:
        stream = path.open(mode) if "b" in mode else path.open(mode, newline="", encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); give the path of a trace") from error
    with stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error


def csv_rows(path: Path, *, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line in the file, {column: cell}) of each row of a CSV with a header; blank lines are passed over.

    Raises TraceError for a missing or empty file, a missing column and a row with too few or too many cells.
    """
    with opened(path) as stream:
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
