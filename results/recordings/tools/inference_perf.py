"""What inference-perf writes with report.request_lifecycle.per_request: per_request_lifecycle_metrics.json, an array of requests.

Source: kubernetes-sigs/inference-perf 0.7.0 (inference_perf/reportgen/base.py) and the files it wrote. Times are of the client's monotonic
clock (perf_counter), so the file does not say when it was. Its config.yaml, beside it, says what was offered.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError, optional_number, read_mapping
from results.recordings.tools.content import head, mapping, objects
from results.recordings.tools.tool_file import Timed, ToolFile, recording_of
from workloads.rows import integer, number

NAME = "inference-perf (per_request_lifecycle_metrics.json)"
BEGINS = re.compile(r'\s*\[\s*(\]|\{\s*"start_time"\s*:\s*[\d.]+\s*,\s*"end_time")')


def is_inference_perf(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    return BEGINS.match(head(path)) is not None


def read_inference_perf(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    entries: list[Any] = next(iter(objects(path)), [])
    requests = [_timed(f"{path}:{line}", line, mapping(f"{path}:{line}", entry)) for line, entry in enumerate(entries, start=1)]
    settings = path.with_name("config.yaml")
    config = read_mapping(settings) if settings.is_file() else {}
    closed, load = _load(config.get("load") or {}) if config else (False, "unknown: no config.yaml beside the file")
    told = ToolFile(
        path=path,
        tool="inference-perf",
        requests=requests,
        said={"model": (config.get("server") or {}).get("model_name"), "workload": (config.get("data") or {}).get("type")},
        closed=closed,
        load=load,
        beside=(settings,) if config else (),
    )
    return recording_of(told, given)


def _timed(where: str, line: int, entry: Mapping[str, Any]) -> Timed:
    info, error = entry.get("info"), entry.get("error")
    if not isinstance(info, dict):
        raise RecordingError(f"{where}: info missing; run the tool with report.request_lifecycle.per_request_fields.info")
    answer = info.get("response_metrics") or info  # before there were response_metrics, its fields were in info itself
    times = tuple(number(where, {"output_token_times": time}, "output_token_times") for time in answer.get("output_token_times") or ())
    usage = answer.get("server_usage") or {}
    outputs = next((count for count in (usage.get("completion_tokens"), answer.get("output_tokens")) if count is not None), None)
    outputs = None if outputs is None else integer(where, {"output_tokens": outputs}, "output_tokens")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    ended = optional_number(where, entry, "end_time")
    return Timed(
        line=line,
        sent=number(where, entry, "start_time"),
        first_token=times[0] if times else None,
        finished=(times[-1] if times else ended) if error is None else None,
        token_times=times if times and len(times) == outputs else None,
        input_tokens=_inputs(where, info, usage),
        output_tokens=outputs if error is None else _asked(entry) or len(times),
        cached_tokens=None if cached is None else integer(where, {"cached_tokens": cached}, "cached_tokens"),
        error=None if error is None else _error(error),
    )


def _inputs(where: str, info: Mapping[str, Any], usage: Mapping[str, Any]) -> int | None:
    """The server's count of the prompt, else the client's."""
    text = (info.get("request_metrics") or {}).get("text") or {}
    count = next((n for n in (usage.get("prompt_tokens"), text.get("input_tokens"), info.get("input_tokens")) if n is not None), None)
    return None if count is None else integer(where, {"input_tokens": count}, "input_tokens")


def _asked(entry: Mapping[str, Any]) -> int | None:
    """How many tokens the request asked for, where the file has the request."""
    try:
        asked = json.loads(entry["request"]).get("max_tokens")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return asked if isinstance(asked, int) else None


def _error(error: Any) -> str:
    said = error if isinstance(error, dict) else {"error_msg": error}
    return ": ".join(" ".join(str(said[key]).split()) for key in ("error_type", "error_msg") if said.get(key))[:200] or "failed"


def _load(load: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether it is a closed loop, and the load in words: its stages follow each other."""
    stages = load.get("stages") or []
    loops = [stage["concurrency_level"] for stage in stages if stage.get("concurrency_level") is not None]
    if loops:
        return True, "closed loop of " + ", then ".join(map(str, loops))
    rates = [f"{stage['rate']:g}" for stage in stages if stage.get("rate") is not None]
    return False, f"open loop, {load.get('type', 'unknown')}" + (f", {', then '.join(rates)} requests/s" if rates else "")
