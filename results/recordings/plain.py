"""The plain form of a recorded run, which anyone can write: requests in CSV or JSONL, YAML or JSON beside it (docs/importing.md)."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results.record import SLO, EngineLimits, RequestRecord
from results.recordings.recording import (
    Recording,
    RecordingError,
    check_order,
    chosen,
    object_rows,
    optional_number,
    read_mapping,
    refuse_unknown,
    sha256,
    started,
)
from workloads.rows import Row, integer, number

REQUIRED = ("arrival", "input_tokens", "output_tokens")
COLUMNS = ("request_id", *REQUIRED, "sent", "scheduled", "first_token", "finished", "cached_tokens", "error", "blocks")
NEEDED = ("system", "model", "hardware", "started_at")
TEXTS = ("version", "workload", "run_id", "invalid_reason")
NUMBERS = ("rate", "rho", "repeat", "seed", "block_size")
KEYS = (*NEEDED, *TEXTS, *NUMBERS, "limits", "slo", "engine", "notes")
SUFFIXES = (".yaml", ".yml", ".json")
COUNTS = ("kv_tokens", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "tensor_parallel")


def sidecar_of(requests: Path) -> Path:
    """The file that says what was measured: of requests.csv in a folder run.yaml (.yml, .json), or the file's own name with that suffix."""
    candidates = [requests.with_suffix(suffix) for suffix in SUFFIXES]
    if requests.stem == "requests":
        candidates = [requests.with_name(f"run{suffix}") for suffix in SUFFIXES] + candidates
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise RecordingError(f"{requests}: no {candidates[0].name} beside it; write one (docs/importing.md), or give it with --about")


def read_plain(requests: Path, about: Path | None, *, model: str | None, hardware: str | None) -> Recording:
    """Read the form. about: its sidecar (None: found beside it); model, hardware: choices of conf/ that replace the sidecar's.

    Raises RecordingError or TraceError: one line, with file and row.
    """
    about = about or sidecar_of(requests)
    said = {key: value for key, value in read_mapping(about).items() if value is not None}
    said |= {key: choice for key, choice in (("model", model), ("hardware", hardware)) if choice is not None}
    refuse_unknown(str(about), said, KEYS)
    missing = [key for key in NEEDED if key not in said]
    if missing:
        raise RecordingError(f"{about}: {', '.join(missing)} missing; docs/importing.md says what each is")
    rows = list(object_rows(requests, required=REQUIRED, known=COLUMNS))
    has_sent = any("sent" in cells for _, cells in rows)
    numbers = {key: number(str(about), said, key) for key in ("rate", "rho") if key in said}
    counts = {key: integer(str(about), said, key) for key in ("repeat", "seed", "block_size") if key in said}
    model_name, model_config = _model(about, said["model"])
    return Recording(
        path=requests,
        requests=tuple(_requests(requests, rows, counts.get("block_size"), has_sent=has_sent)),
        form="plain (docs/importing.md)",
        system=str(said["system"]),
        workload={"name": str(said.get("workload", requests.parent.name if requests.stem == "requests" else requests.stem))},
        model=model_name,
        model_config=model_config,
        hardware=_hardware(about, said["hardware"]),
        limits=_limits(about, _mapping(about, said, "limits")),
        slo=_slo(about, _mapping(about, said, "slo")) if "slo" in said else None,
        started_at=started(f"{about}: started_at", said["started_at"]).isoformat(),
        files={file.name: sha256(file) for file in (requests, about)},
        version=_text(said, "version"),
        run_id=_text(said, "run_id"),
        invalid_reason=_text(said, "invalid_reason"),
        engine=_mapping(about, said, "engine"),
        assumed={} if has_sent else {"sent": "no such column: every request is taken to be sent at its arrival"},
        provenance={"notes": said["notes"]} if "notes" in said else {},
        rate=numbers.get("rate"),
        rho=numbers.get("rho"),
        repeat=counts.get("repeat", 0),
        seed=counts.get("seed"),
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


def _model(about: Path, said: Any) -> tuple[str, dict[str, Any]]:
    """Name and config.json: of a choice of conf/model, or given in full as {name, config}."""
    model = chosen("model", said) if isinstance(said, str) else said
    if not isinstance(model, dict) or not isinstance(model.get("config"), dict) or not isinstance(model.get("name"), str):
        raise RecordingError(f"{about}: model must be a name from conf/model/ or have a name and a config (its config.json), got {said!r}")
    return model["name"], model["config"]


def _hardware(about: Path, said: Any) -> dict[str, Any]:
    hardware = chosen("hardware", said) if isinstance(said, str) else said
    if not isinstance(hardware, dict) or not isinstance(hardware.get("name"), str):
        raise RecordingError(f"{about}: hardware must be a name from conf/hardware/ or have at least a name, got {said!r}")
    return hardware


def _limits(about: Path, said: Mapping[str, Any]) -> EngineLimits:
    refuse_unknown(f"{about}: limits", said, [f.name for f in dataclasses.fields(EngineLimits)])
    limits: dict[str, Any] = {}
    for name, value in said.items():
        if value is None:
            continue
        limits[name] = integer(f"{about}: limits", said, name) if name in COUNTS else value
        if name in COUNTS and limits[name] < 1:
            raise RecordingError(f"{about}: limits: {name} must be >= 1, got {value}; leave out what is unknown")
        if name not in COUNTS and not isinstance(value, bool):
            raise RecordingError(f"{about}: limits: {name} must be true or false, got {value!r}")
    return EngineLimits(**limits)


def _slo(about: Path, said: Mapping[str, Any]) -> SLO:
    refuse_unknown(f"{about}: slo", said, [f.name for f in dataclasses.fields(SLO)])
    return SLO(**{name: optional_number(f"{about}: slo", said, name) for name in said})


def _mapping(about: Path, said: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = said.get(key, {})
    if not isinstance(value, dict):
        raise RecordingError(f"{about}: {key} must hold names and values, got {value!r}")
    return value


def _text(said: Mapping[str, Any], key: str) -> str | None:
    return None if key not in said else str(said[key])
