"""The trace of BLIS's `blis observe` (inference-sim/inference-sim), versions 2 and 3: a CSV of requests, its header NAME.yaml beside it.

Source: sim/workload/tracev2.go, sim/workload/itl.go and cmd/observe.go @ f90a1e3. Times are in us. Arrivals count from the observation's
start, all else is the time of day, and their difference is not recorded. No request is sent before it is due, so the smallest of
sent - arrival is taken: the promptest request then was sent when it was due.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError, read_mapping
from results.recordings.tools.content import head
from results.recordings.tools.tool_file import Timed, ToolFile, recording_of
from workloads.rows import csv_rows, integer

NAME = "BLIS (trace CSV of blis observe)"
NEEDED = ("request_id", "input_tokens", "output_tokens", "arrival_time_us", "send_time_us", "first_chunk_time_us", "last_chunk_time_us")
COLUMNS = (*NEEDED, "server_input_tokens", "prefix_length", "session_id", "status", "error_message")
SERVER = {
    "tensor_parallel": "tensor_parallel",
    "max_num_seqs": "max_num_seqs",
    "block_size": "block_size",
    "max_model_len": "max_model_len",
}
STEP = 1_000_000  # us in a second


def is_blis(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    header = head(path).split("\n", 1)[0]
    return "arrival_time_us" in header and "send_time_us" in header


def read_blis(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    rows = [(line, _whole(f"{path}:{line}", cells)) for line, cells in csv_rows(path, required=COLUMNS)]
    about = next((file for suffix in (".yaml", ".yml") if (file := path.with_suffix(suffix)).is_file()), None)
    header = {} if about is None else read_mapping(about)
    if header.get("mode", "real") != "real":
        raise RecordingError(f"{about}: mode is {header['mode']}: BLIS made this trace, nobody measured it")
    chunks, chunk_file = _chunks(path)
    start = min((row["send_time_us"] for _, row in rows if row["send_time_us"]), default=0)
    offset = min((row["send_time_us"] - row["arrival_time_us"] for _, row in rows if row["send_time_us"]), default=0)
    server = header.get("server") or {}
    told = ToolFile(
        path=path,
        tool=f"BLIS trace, version {header.get('trace_version', 'unknown')}",
        requests=[_timed(line, row, start, offset, chunks.get(row["request_id"], ())) for line, row in rows],
        said={
            "system": server.get("type"),
            "model": server.get("model"),
            "started_at": datetime.fromtimestamp(start / STEP, UTC).isoformat() if start else None,
            "seed": header.get("workload_seed"),
            "limits": {ours: server[theirs] for ours, theirs in SERVER.items() if server.get(theirs)},
        },
        closed=False,
        load="sessions: rounds follow each other" if any(row["session_id"] for _, row in rows) else "open loop, as BLIS's workload says",
        beside=tuple(file for file in (about, chunk_file) if file is not None),
        assumed={"clock": "the promptest request was sent when it was due; how late it was is not recorded, and so late are all"},
    )
    return recording_of(told, given)


def _whole(where: str, cells: Mapping[str, str]) -> dict[str, Any]:
    numbers = {name: integer(where, cells, name) for name in (*NEEDED, "server_input_tokens", "prefix_length")}
    if any(value < 0 for value in numbers.values()):
        name, value = next((name, value) for name, value in numbers.items() if value < 0)
        raise RecordingError(f"{where}: {name} must be >= 0, got {value}")
    return numbers | {name: cells[name].strip() for name in ("session_id", "status", "error_message")}


def _chunks(path: Path) -> tuple[dict[int, list[int]], Path | None]:
    """Times of the chunks of each request (--record-itl), in us: request_id to times; and the file that has them."""
    file = next((file for name in (f"{path.name}.itl.csv", f"{path.stem}.itl.csv") if (file := path.with_name(name)).is_file()), None)
    found: dict[int, list[int]] = {}
    for line, cells in csv_rows(file, required=("request_id", "chunk_index", "timestamp_us")) if file else ():
        found.setdefault(integer(f"{file}:{line}", cells, "request_id"), []).append(integer(f"{file}:{line}", cells, "timestamp_us"))
    return found, file


def _timed(line: int, row: Mapping[str, Any], start: int, offset: int, chunks: Sequence[int]) -> Timed:
    def seconds(moment: int) -> float | None:
        return (moment - start) / STEP if moment else None  # 0: it never was

    error = None if row["status"] == "ok" else f"{row['status']}: {row['error_message']}".strip(": ")[:200] or "failed"
    times = tuple((moment - start) / STEP for moment in chunks)
    return Timed(
        line=line,
        sent=seconds(row["send_time_us"]),
        arrival=(row["arrival_time_us"] + offset - start) / STEP,
        first_token=seconds(row["first_chunk_time_us"]),
        finished=seconds(row["last_chunk_time_us"]) if error is None else None,
        token_times=times if times and len(times) == row["output_tokens"] else None,
        input_tokens=row["server_input_tokens"] or row["input_tokens"] + row["prefix_length"],
        output_tokens=row["output_tokens"],
        error=error,
    )
