"""What `vllm bench serve --save-result --save-detailed` writes, the client in Python or in Rust: a JSON object (--append-result: several).

It has no engine version, no hardware and no limits. Its times are the client's. Files of older releases have no start times; they are
taken where start_times.py can tell when requests were sent.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError
from results.recordings.tools.client_arrays import client_result
from results.recordings.tools.content import has_names, head
from results.recordings.tools.tool_file import ToolFile, recording_of
from workloads.rows import number

NAME = "vLLM's bench serve (JSON with --save-detailed)"


def is_vllm_bench(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    return has_names(head(path), "date", "backend", "model_id", "num_prompts", "request_rate")


def read_vllm_bench(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    told = client_result(path, given.benchmark, named_by="date", option="--save-result --save-detailed")
    result = told.result
    started = "the date in the file, taken as UTC where it has no zone, less the duration: it is written at the end"
    client = "Rust" if "T" in str(result["date"]) else "Python"
    file = ToolFile(
        path=path,
        tool=f"vLLM's bench serve ({client} client)",
        requests=told.requests,
        said={
            "model": result["model_id"],
            "started_at": _start(path, result),
            "rate": told.rate,
            "engine": {"backend": result["backend"]},
        },
        closed=told.closed,
        load=told.load,
        assumed={"started_at": started, **told.assumed},
    )
    return recording_of(file, given)


def _start(path: Path, result: Mapping[str, Any]) -> str:
    """The moment of the first request: the file's date (20260425-184718, or ISO 8601) less its duration."""
    date = str(result["date"])
    try:
        end = datetime.fromisoformat(date) if "T" in date else datetime.strptime(date, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise RecordingError(f"{path}: date must be like 20260425-184718, got {date!r}") from error
    return (end - timedelta(seconds=number(str(path), result, "duration"))).isoformat()
