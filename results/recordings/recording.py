"""Recording: what someone else measured, in Plumbline's units, before it becomes a Run. Helpers that both forms of it share."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from results.project.folder import CONF
from results.record import SLO, EngineLimits, RequestRecord
from workloads.rows import Row, csv_rows, number, opened


class RecordingError(ValueError):
    """A recording that cannot be imported; the message says where (file and row), what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One measured run of someone else's. None: not said."""

    path: Path  # the file of the requests
    # what was asked, and what came of it, in order of arrival; times in s since the run's start
    requests: tuple[tuple[Row, RequestRecord], ...]
    form: str  # which form it was read from, in words
    system: str  # vllm, sglang, ...
    version: str | None  # the system's own
    workload: Mapping[str, Any]  # its name, and what else is known of it
    model: str  # its name
    model_config: Mapping[str, Any]  # its config.json
    hardware: Mapping[str, Any]  # as in conf/hardware
    limits: EngineLimits  # what the engine resolved its configuration to
    started_at: str  # UTC, ISO 8601
    files: Mapping[str, str]  # name to sha256 of what was read
    run_id: str | None = None  # as in Run
    slo: SLO | None = None  # limits of a good request
    rate: float | None = None  # offered requests/s
    rho: float | None = None  # offered load as a fraction of measured capacity
    repeat: int = 0  # as in Run
    seed: int | None = None  # of the workload's draws
    invalid_reason: str | None = None  # why it is no measurement; None: it is one
    engine: Mapping[str, Any] = field(default_factory=dict)  # the engine's arguments, and what it said of itself
    assumed: Mapping[str, str] = field(default_factory=dict)  # by name, what nobody recorded and where the value is from
    not_recorded: tuple[str, ...] = ()  # the rest that is unknown, in words
    provenance: Mapping[str, Any] = field(default_factory=dict)  # what else the recording says of itself
    telemetry: pd.DataFrame | None = None  # as in Run


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a JSON or YAML file that holds a mapping. Raises RecordingError."""
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
        else:
            content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        what = "JSON" if path.suffix == ".json" else "YAML"
        raise RecordingError(f"{path}: not {what} ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: it must hold names and values, got {type(content).__name__}")
    return content


def object_rows(path: Path, *, required: Sequence[str], known: Sequence[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, {name: value}) of each row of a .jsonl file, or of a CSV with a header (an empty cell is None there).

    Raises RecordingError or TraceError for what is not a row, for a missing name, and for a name not in `known` (None: any will do).
    """
    if path.suffix == ".jsonl":
        yield from jsonl_rows(path, required=required, known=known)
        return
    for line, cells in csv_rows(path, required=required):
        _check_names(f"{path}:1", cells, required, known)
        yield line, {name: cell.strip() or None for name, cell in cells.items()}


def jsonl_rows(path: Path, *, required: Sequence[str], known: Sequence[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each line of JSON; blank lines are passed over. Errors as those of object_rows."""
    with opened(path) as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                fields = json.loads(text)
            except ValueError as error:
                raise RecordingError(f"{path}:{line}: not JSON ({error}); give one object per line") from error
            if not isinstance(fields, dict):
                raise RecordingError(f"{path}:{line}: each line must be a JSON object, got {text.strip()[:40]}")
            _check_names(f"{path}:{line}", fields, required, known)
            yield line, fields


def _check_names(where: str, names: Mapping[str, Any], required: Sequence[str], known: Sequence[str] | None) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise RecordingError(f"{where}: {', '.join(missing)} missing; it has {', '.join(names) or 'nothing'}")
    if known is not None:
        refuse_unknown(where, names, known)


def refuse_unknown(where: str, names: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise RecordingError for the first name that is not known: a misspelt name would otherwise be ignored."""
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise RecordingError(f"{where}: unknown name {name!r}; {hint}")


def optional_number(where: str, row: Mapping[str, Any], name: str) -> float | None:
    """row[name] as a finite float; None when it is missing, empty or null. Raises TraceError."""
    return None if row.get(name) is None else number(where, row, name)


def check_order(where: str, moments: Mapping[str, float | None]) -> None:
    """Raise RecordingError when the times, in the mapping's order, do not ascend; None is skipped."""
    before, earliest = "", -math.inf
    for name, time in moments.items():
        if time is None:
            continue
        if time < earliest:
            raise RecordingError(f"{where}: {name} ({time} s) is before {before} ({earliest} s); check the clocks and the units (s)")
        before, earliest = name, time


def chosen(group: str, name: str) -> dict[str, Any]:
    """The values of conf/<group>/<name>.yaml. Raises RecordingError naming the ones that exist."""
    path = CONF / group / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        raise RecordingError(f"conf/{group}/ has no {name}.yaml; known: {', '.join(_choices(group))}")
    return {key: value for key, value in read_mapping(path).items() if not key.startswith("_")}


def named_like(group: str, said: str, option: str) -> str:
    """The choice of conf/<group>/ that has the letters and digits of `said`. Raises a RecordingError that asks for `option`."""
    for choice in _choices(group):
        if _letters(choice) == _letters(said):
            return choice
    raise RecordingError(f"conf/{group}/ has nothing named like {said!r}; give {option} one of {', '.join(_choices(group))}, or add a YAML")


def started(where: str, text: Any) -> datetime:
    """An ISO 8601 moment in UTC (no zone: taken as UTC). Raises RecordingError."""
    try:
        moment = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    except ValueError as error:
        raise RecordingError(f"{where} must be a date and time like 2026-04-25T18:47:18Z, got {text!r}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _choices(group: str) -> list[str]:
    """Those that have a name of their own: model=hf and model=config are what the user's file says."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if read_mapping(path).get("name"))


def _letters(name: str) -> str:
    return "".join(c for c in name.rsplit("/", 1)[-1].lower() if c.isalnum())
