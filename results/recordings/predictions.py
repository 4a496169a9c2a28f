"""Somebody's predictions of single requests: the plain form (docs/importing.md), or LLMServingSim's output CSV."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.recordings.recording import RecordingError, object_rows, optional_number, refuse_unknown
from workloads.rows import integer, number, opened

LATENCIES = ("ttft", "e2e", "token_times")  # s from when the request was sent
MOMENTS = ("first_token", "finished")  # s since the run's start
COUNTS = ("input_tokens", "output_tokens")
COLUMNS = ("request_id", *LATENCIES, *MOMENTS, *COUNTS, "error")
SERVINGSIM = ("request id", "input", "output", "arrival", "end_time", "latency", "TTFT", "ITL")
NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPrediction:
    """What was predicted of one request. Times in s from when it was sent, or since the run's start (`since_start`). None: not said."""

    where: str  # file and line
    request_id: int  # as in the run
    first: float | None  # its first token
    last: float | None  # its last token
    tokens: tuple[float, ...] | None  # each of its tokens
    since_start: bool  # whether these are moments of the run
    input_tokens: int | None = None  # that the simulator was asked with
    output_tokens: int | None = None  # that it was asked for
    error: str | None = None  # why it has no times


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A file of them. form: in words."""

    path: Path
    form: str
    requests: tuple[RequestPrediction, ...]


def read_predictions(path: Path) -> Predictions:
    """Read a file of either form. Raises RecordingError or TraceError: one line, with file and row."""
    with opened(path, obtain="give a CSV or JSONL of predictions (docs/importing.md)") as stream:
        servingsim = "request id" in next(csv.reader([stream.readline()]), [])
    form, rows = ("LLMServingSim's output", _servingsim(path)) if servingsim else ("plain (docs/importing.md)", _plain(path))
    requests = tuple(rows)
    if not requests:
        raise RecordingError(f"{path}: it has no predictions; give a row for each request of the run")
    return Predictions(path=path, form=form, requests=requests)


def _plain(path: Path) -> Iterator[RequestPrediction]:
    for line, cells in object_rows(path, required=("request_id",), known=COLUMNS):
        where = f"{path}:{line}"
        refuse_unknown(where, cells, COLUMNS)
        error = None if cells.get("error") is None else str(cells["error"])
        tokens = _numbers(where, cells.get("token_times"))
        said = {name for name in (*LATENCIES, *MOMENTS) if cells.get(name) is not None}
        moments = bool(said & {*MOMENTS})
        if moments and said & {*LATENCIES}:
            raise RecordingError(f"{where}: {' and '.join(sorted(said))} together; give ttft and e2e, or first_token and finished")
        first = optional_number(where, cells, "first_token" if moments else "ttft")
        last = optional_number(where, cells, "finished" if moments else "e2e")
        if tokens:
            first, last = tokens[0] if first is None else first, tokens[-1] if last is None else last
        if last is None and error is None:
            raise RecordingError(f"{where}: no e2e, finished or token_times, and no error says why; fill it in, or give the row an error")
        yield RequestPrediction(
            where=where,
            request_id=integer(where, cells, "request_id"),
            first=first,
            last=last,
            tokens=tokens,
            since_start=moments,
            input_tokens=_count(where, cells, "input_tokens"),
            output_tokens=_count(where, cells, "output_tokens"),
            error=error,
        )


def _servingsim(path: Path) -> Iterator[RequestPrediction]:
    """Columns in ns, latencies from its own arrival, which stands for the moment at which the request was sent."""
    before = csv.field_size_limit(sys.maxsize)  # a row's ITL may be longer than the csv module's 131,072 characters
    try:
        for line, cells in object_rows(path, required=SERVINGSIM, known=None):
            where = f"{path}:{line}"
            first = number(where, cells, "TTFT")
            last = number(where, cells, "end_time") - number(where, cells, "arrival")
            tokens = [first]
            for gap in _numbers(where, cells.get("ITL")) or ():
                tokens.append(tokens[-1] + gap)
            yield RequestPrediction(
                where=where,
                request_id=integer(where, cells, "request id"),
                first=first * NANOSECOND,
                last=last * NANOSECOND,
                tokens=tuple(time * NANOSECOND for time in tokens),
                since_start=False,
                input_tokens=_count(where, cells, "input"),
                output_tokens=_count(where, cells, "output"),
            )
    finally:
        csv.field_size_limit(before)


def _count(where: str, cells: Mapping[str, Any], name: str) -> int | None:
    return None if cells.get(name) is None else integer(where, cells, name)


def _numbers(where: str, cell: Any) -> tuple[float, ...] | None:
    """A list of finite numbers: JSON, or parted by spaces. None: there is none."""
    if cell is None:
        return None
    read: Callable[[str], Any] = json.loads if str(cell).lstrip().startswith("[") else str.split
    try:
        found = tuple(float(item) for item in (read(cell) if isinstance(cell, str) else cell))
    except (TypeError, ValueError):
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise RecordingError(f"{where}: a list of numbers is wanted, got {str(cell)[:40]!r}")
    return found or None
