"""The content of a tool's file: what it begins with, JSON in one or several pieces, and which of several results is meant."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.recordings.recording import RecordingError
from workloads.rows import opened

HEAD = 1 << 16  # characters that tell one form from another: names come before long arrays in all of them


def head(path: Path) -> str:
    """The beginning of a file. Raises TraceError when it cannot be read."""
    with opened(path, obtain="give the file that the tool wrote") as stream:
        text: str = stream.read(HEAD)
    return text


def has_names(text: str, *names: str) -> bool:
    """Whether a text of JSON has all of these names."""
    return all(re.search(rf'"{name}"\s*:', text) for name in names)


def objects(path: Path) -> list[Any]:
    """The JSON values of a file, one after the other (with --append-result and in JSONL there are several). Raises RecordingError."""
    with opened(path) as stream:
        text = stream.read()
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text) and (begin := re.compile(r"\S").search(text, place)):
        try:
            value, place = decoder.raw_decode(text, begin.start())
        except ValueError as error:
            raise RecordingError(f"{path}: not JSON ({error}); is the file whole?") from error
        found.append(value)
    return found


def one_of(path: Path, results: Sequence[Any], names: Sequence[str], number: int | None) -> Any:
    """The result that --benchmark names (from 1), or the only one. names: what tells them apart. Raises RecordingError that lists them."""
    if number is None and len(results) == 1:
        return results[0]
    if number is None or not 1 <= number <= len(results):
        listed = "; ".join(f"{place}: {name}" for place, name in enumerate(names, start=1))
        raise RecordingError(f"{path}: it has {len(results)} results; give --benchmark with the number of one of them ({listed})")
    return results[number - 1]


def mapping(where: str, value: Any) -> dict[str, Any]:
    """The value, which must be a JSON object. Raises RecordingError."""
    if not isinstance(value, dict):
        raise RecordingError(f"{where}: it must be a JSON object, got {str(value)[:40]!r}")
    return value


def last_line(error: str) -> str:
    """What went wrong, of a message or a traceback: its last line, without the paths that stand above it."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return (lines[-1] if lines else error)[:200]
