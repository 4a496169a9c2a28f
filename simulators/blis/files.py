"""BLIS's files: its trace (version 3: a header in YAML, rows in CSV, µs) in, a JSON list with a result per request out."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, check_tokens, describe_log
from workloads.trace import Request, Trace

SYSTEM = "blis"
HEADER = "trace_version: 3\ntime_unit: microseconds\nmode: generated\nwarm_up_requests: 0\n"
COLUMNS = (
    "request_id", "client_id", "tenant_id", "slo_class", "session_id", "round_index", "prefix_group", "prefix_length", "streaming",
    "input_tokens", "output_tokens", "text_tokens", "image_tokens", "audio_tokens", "video_tokens", "reason_ratio", "model", "deadline_us",
    "server_input_tokens", "arrival_time_us", "send_time_us", "first_chunk_time_us", "last_chunk_time_us", "num_chunks", "status",
    "error_message", "finish_reason",
)  # fmt: skip
MICROSECOND = 1e-6


def write_trace(trace: Trace, folder: Path) -> tuple[Path, Path]:
    """Write header.yaml and trace.csv; return both. Every prompt is new: its prefix groups cannot express shared blocks."""
    header, rows = folder / "header.yaml", folder / "trace.csv"
    header.write_text(HEADER)
    with rows.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(map(_row, trace))
    return header, rows


def microseconds(request: Request) -> int:
    """When a request is sent, in its unit."""
    return round(request.arrival / MICROSECOND)


def _row(request: Request) -> dict[str, Any]:
    moment = microseconds(request)
    zero = dict.fromkeys((name for name in COLUMNS if name.endswith(("_tokens", "_us", "_length", "_index", "_ratio", "_chunks"))), 0)
    return zero | {
        "request_id": request.request_id,
        "streaming": "true",
        "input_tokens": request.input_tokens,
        "text_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "arrival_time_us": moment,
        "send_time_us": moment,
        "status": "ok",
    }


def read_records(path: Path, trace: Trace, log: Path) -> list[RequestRecord]:
    """One record per request, in the trace's order. Raises SimulatorError for lost rows, other token counts, and times that are none."""
    try:
        rows = {int(row["request_id"]): row for row in json.loads(path.read_text())}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SimulatorError(f"{SYSTEM}: its results cannot be read ({error}); {describe_log(log)}") from error
    check_rows(SYSTEM, [r.request_id for r in trace], list(rows), log)
    return [_record(request, rows[request.request_id], log) for request in trace]


def _record(request: Request, row: Mapping[str, Any], log: Path) -> RequestRecord:
    check_tokens(SYSTEM, request, row["input_tokens"], row["output_tokens"], log)
    times = {name: float(row[name]) * MICROSECOND for name in ("ttft_us", "e2e_us")}
    check_finite(SYSTEM, request.request_id, times, log)
    ttft, e2e = times.values()
    if not 0 < ttft <= e2e:
        raise SimulatorError(f"{SYSTEM}: request {request.request_id} has a TTFT of {ttft} s and an E2E of {e2e} s; {describe_log(log)}")
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival,
        first_token=request.arrival + ttft,
        finished=request.arrival + e2e,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
    )
