"""Writes a recording in the plain form: requests.csv and run.yaml in a folder of their own."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.recordings.recording import RecordingError


def write(folder: Path, about: Mapping[str, Any], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A recording. about: of run.yaml (JSON is YAML too). rows: in order of arrival; times in s, kept to the microsecond; None: unknown."""
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    with (folder / "requests.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def with_limits(about: Mapping[str, Any], **limits: Any) -> dict[str, Any]:
    """The same run.yaml with these limits of the engine added; None: unknown, so not added."""
    known = {name: value for name, value in limits.items() if value is not None}
    return {**about, "limits": {**about.get("limits", {}), **known}}


def moment(seconds: float) -> str:
    """s since 1970 as run.yaml has it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def matching(repository: Path, pattern: str) -> list[Path]:
    """The files of a repository that match, in order. Raises RecordingError when none does."""
    found = sorted(repository.glob(pattern))
    if not found:
        raise RecordingError(f"{repository}: no {pattern} in it; the catalogue names the commit that has it")
    return found


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else value
