"""What is said of a run beside its requests: engine, model, hardware, start, limits. In a sidecar (docs/importing.md), on the command line,
or in the file of the tool that measured it.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.record import SLO, EngineLimits
from results.recordings.recording import RecordingError, chosen, optional_number, read_mapping, refuse_unknown, started
from workloads.rows import integer, number

NEEDED = ("system", "model", "hardware", "started_at")
TEXTS = ("version", "workload", "run_id", "invalid_reason", "load")
NUMBERS = ("rate", "rho", "repeat", "seed", "block_size")
KEYS = (*NEEDED, *TEXTS, *NUMBERS, "limits", "slo", "engine", "notes")
PARALLEL = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")
COUNTS = ("kv_tokens", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", *PARALLEL)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the one who imports adds to a recording."""

    about: Path | None = None  # a sidecar
    said: Mapping[str, str] = field(default_factory=dict)  # keys of NEEDED, from the command line: they go before the sidecar's
    benchmark: int | None = None  # which result of a file that has several, from 1


def read_about(about: Path | None, given: Given) -> dict[str, Any]:
    """What a sidecar (None: there is none) and the command line say. Raises RecordingError for a key that a sidecar does not have."""
    said = {} if about is None else {key: value for key, value in read_mapping(about).items() if value is not None}
    refuse_unknown(str(about), said, KEYS)
    return said | dict(given.said)


def described(where: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Recording that `said` has a word on. Raises RecordingError, TraceError that name `where`."""
    model_name, model_config = _model(where, said["model"])
    numbers = {key: number(where, said, key) for key in ("rate", "rho") if key in said}
    counts = {key: integer(where, said, key) for key in ("repeat", "seed") if key in said}
    texts = {key: str(said[key]) for key in ("run_id", "invalid_reason") if key in said}
    return {
        "system": str(said["system"]),
        "version": str(said["version"]) if "version" in said else None,
        "model": model_name,
        "model_config": model_config,
        "hardware": _hardware(where, said["hardware"]),
        "limits": _limits(where, _mapping(where, said, "limits")),
        "slo": _slo(where, _mapping(where, said, "slo")) if "slo" in said else None,
        "started_at": started(f"{where}: started_at", said["started_at"]).isoformat(),
        "engine": _told_in_notes(str(said.get("notes", ""))) | _mapping(where, said, "engine"),
        **texts,
        **numbers,
        **counts,
    }


def _model(where: str, said: Any) -> tuple[str, dict[str, Any]]:
    """Name and config.json: of a choice of conf/model, or given in full as {name, config}."""
    model = chosen("model", said) if isinstance(said, str) else said
    if not isinstance(model, dict) or not isinstance(model.get("config"), dict) or not isinstance(model.get("name"), str):
        raise RecordingError(f"{where}: model must be a name from conf/model/ or have a name and a config (its config.json), got {said!r}")
    return model["name"], model["config"]


def _hardware(where: str, said: Any) -> dict[str, Any]:
    hardware = chosen("hardware", said) if isinstance(said, str) else said
    if not isinstance(hardware, dict) or not isinstance(hardware.get("name"), str):
        raise RecordingError(f"{where}: hardware must be a name from conf/hardware/ or have at least a name, got {said!r}")
    return hardware


def _limits(where: str, said: Mapping[str, Any]) -> EngineLimits:
    refuse_unknown(f"{where}: limits", said, [f.name for f in dataclasses.fields(EngineLimits)])
    limits: dict[str, Any] = {}
    for name, value in said.items():
        if value is None:
            continue
        limits[name] = integer(f"{where}: limits", said, name) if name in COUNTS else value
        if name in COUNTS and limits[name] < 1:
            raise RecordingError(f"{where}: limits: {name} must be >= 1, got {value}; leave out what is unknown")
        if name not in COUNTS and not isinstance(value, bool):
            raise RecordingError(f"{where}: limits: {name} must be true or false, got {value!r}")
    return EngineLimits(**limits)


def _slo(where: str, said: Mapping[str, Any]) -> SLO:
    refuse_unknown(f"{where}: slo", said, [f.name for f in dataclasses.fields(SLO)])
    return SLO(**{name: optional_number(f"{where}: slo", said, name) for name in said})


def _told_in_notes(notes: str) -> dict[str, Any]:
    """Settings of an engine that are said in words. Published recordings say this one nowhere else, and it moves a TTFT by a fifth."""
    off = re.search(r"asynchronous scheduling (is )?off|--no-async-scheduling|--async-scheduling[ =]false", notes, re.IGNORECASE)
    return {"async_scheduling": False} if off else {}


def _mapping(where: str, said: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = said.get(key, {})
    if not isinstance(value, dict):
        raise RecordingError(f"{where}: {key} must hold names and values, got {value!r}")
    return value
