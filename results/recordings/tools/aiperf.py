"""What `aiperf profile` writes: profile_export.jsonl, a line for each request, with the summary profile_export_aiperf.json beside it.

Source: ai-dynamo/aiperf 0.13.0, docs of the JSONL export and the files it wrote. Times of day are in ns, latencies in ms. A credit is the
right to send: it is issued when a request is due.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError, jsonl_rows, optional_number, read_mapping
from results.recordings.tools.content import has_names, head, mapping
from results.recordings.tools.tool_file import Timed, ToolFile, recording_of
from workloads.rows import integer, number

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}  # in a unit of time
NAME = "AIPerf (profile_export.jsonl)"


def is_aiperf(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    return has_names(head(path), "metadata", "request_start_ns", "metrics")


def read_aiperf(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    lines = list(jsonl_rows(path, required=("metadata", "metrics"), known=None))
    measured = [
        (line, fields) for line, fields in lines if mapping(f"{path}:{line}", fields["metadata"]).get("benchmark_phase") != "warmup"
    ]
    if not measured:
        raise RecordingError(f"{path}: it has no requests but those of the warm-up ({len(lines)})")
    start = min(integer(f"{path}:{line}", fields["metadata"], "request_start_ns") for line, fields in measured)
    requests = [_timed(f"{path}:{line}", line, fields, start) for line, fields in measured]
    beside, summary = _summary(path)
    closed, load, rate = _load(summary.get("input_config", {}))
    assumed = {} if beside else {"load": f"unknown: no summary {_summary_path(path).name} beside the file"}
    if len(measured) < len(lines):
        assumed["warm-up"] = f"{len(lines) - len(measured)} requests of the warm-up are left out"
    told = ToolFile(
        path=path,
        tool=f"AIPerf {summary.get('aiperf_version', '')}".strip(),
        requests=requests,
        said={
            "model": _model(summary.get("input_config", {})),
            "started_at": datetime.fromtimestamp(start / 1e9, UTC).isoformat(),
            "rate": rate,
            "seed": summary.get("run_info", {}).get("random_seed"),
        },
        closed=closed,
        load=load,
        beside=beside,
        assumed=assumed,
    )
    return recording_of(told, given)


def _timed(where: str, line: int, fields: Mapping[str, Any], start: int) -> Timed:
    about, metrics, error = fields["metadata"], mapping(where, fields["metrics"]), fields.get("error")
    values = {name: _in_seconds(where, name, metric) for name, metric in metrics.items() if isinstance(metric, dict)}
    ttft, latency = optional_number(where, values, "time_to_first_token"), optional_number(where, values, "request_latency")
    sent = (integer(where, about, "request_start_ns") - start) / 1e9  # whole numbers first: a double has no ns of a time of day
    credit = about.get("credit_issued_ns")
    first = None if ttft is None else sent + ttft
    gaps = values.get("inter_chunk_latency")
    chunks = tuple(accumulate(gaps, initial=first)) if first is not None and isinstance(gaps, list) else None
    outputs = _count(where, values, "usage_completion_tokens", "output_sequence_length")
    return Timed(
        line=line,
        sent=sent,
        arrival=None if credit is None else (integer(where, about, "credit_issued_ns") - start) / 1e9,
        first_token=first,
        finished=chunks[-1] if chunks else None if latency is None else sent + latency,
        token_times=chunks if chunks and len(chunks) == outputs else None,
        input_tokens=_count(where, values, "usage_prompt_tokens", "input_sequence_length"),
        output_tokens=outputs,
        cached_tokens=_count(where, values, "usage_prompt_cache_read_tokens"),
        error=_error(about, error),
    )


def _in_seconds(where: str, name: str, metric: Mapping[str, Any]) -> Any:
    """The metric's value; times in s. A list for what is measured several times in a request."""
    value, scale = metric.get("value"), SECONDS.get(str(metric.get("unit")), 1.0)
    if isinstance(value, list):
        return [scale * number(where, {name: each}, name) for each in value]
    return value if scale == 1.0 or value is None else scale * number(where, {name: value}, name)


def _count(where: str, values: Mapping[str, Any], *names: str) -> int | None:
    """The first of these counts that is there."""
    return next((integer(where, values, name) for name in names if values.get(name) is not None), None)


def _error(about: Mapping[str, Any], error: Any) -> str | None:
    if error is None:
        return "cancelled by the client" if about.get("was_cancelled") else None
    said = error if isinstance(error, dict) else {"message": error}
    return ": ".join(str(said[key]) for key in ("code", "type", "message") if said.get(key) is not None)[:200] or "failed"


def _summary_path(path: Path) -> Path:
    return path.with_name(path.name.replace(".jsonl", "_aiperf.json"))


def _summary(path: Path) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """The summary beside the file: its path and its content; both empty where there is none."""
    summary = _summary_path(path)
    return ((summary,), read_mapping(summary)) if summary != path and summary.is_file() else ((), {})


def _load(config: Mapping[str, Any]) -> tuple[bool, str, float | None]:
    """Whether it is a closed loop, the load in words, the rate. The settings of the measured phase; of older releases `loadgen`."""
    phase = next(_measured(config), None) or config.get("loadgen") or {}
    rate, loop = phase.get("rate") or phase.get("request_rate"), phase.get("concurrency")
    if rate is not None:
        limit = f", at most {loop} in flight" if loop is not None else ""
        return False, f"open loop, {rate:g} requests/s{limit}", float(rate)
    if loop is not None:
        return True, f"closed loop of {loop}", None
    return False, str(phase.get("type") or "unknown"), None


def _measured(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (phase for phase in config.get("phases") or () if phase.get("kind", phase.get("name")) != "warmup")


def _model(config: Mapping[str, Any]) -> str | None:
    """The name of the one model, in the settings of this release or of older ones."""
    models = config.get("models") or {}
    names = [item.get("name") for item in models.get("items", ())] if isinstance(models, dict) else []
    names = names or (config.get("endpoint") or {}).get("model_names") or []
    return str(names[0]) if len(names) == 1 else None
