"""What `guidellm run` (or `guidellm benchmark`) writes as JSON: a report with one benchmark or several, and each request of each.

Source: vllm-project/guidellm 0.8.1 and the files it wrote; the names of 0.4 and 0.5, which had fewer moments, are taken as well. Times of
day in s. Of the tokens it has the first and the last only.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording, RecordingError, optional_number
from results.recordings.tools.content import has_names, head, last_line, mapping, objects, one_of
from results.recordings.tools.tool_file import Timed, ToolFile, recording_of
from workloads.rows import integer

NAME = "GuideLLM (JSON)"
KINDS = ("successful", "errored", "incomplete")
CLOSED = ("concurrent", "synchronous", "throughput")  # strategies that send when another request has ended
FIRST = ("first_token_iteration", "first_iteration")
LAST = ("last_token_iteration", "last_iteration")


def is_guidellm(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    text = head(path)
    return has_names(text, "guidellm_version") or (has_names(text, "benchmarks") and "generative_benchmark" in text)


def read_guidellm(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    report = mapping(str(path), next(iter(objects(path)), None))
    benchmarks = report.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise RecordingError(f"{path}: it has no benchmarks")
    loads = [_load(mapping(str(path), benchmark)) for benchmark in benchmarks]
    place = one_of(path, range(len(benchmarks)), [load for _, load, _ in loads], given.benchmark)
    benchmark, (closed, load, rate) = benchmarks[place], loads[place]
    version = (report.get("metadata") or {}).get("guidellm_version", "")
    requests = list(_requests(f"{path}: benchmark {place + 1}", benchmark))
    start = min((request.sent for request in requests if request.sent is not None), default=0.0)
    told = ToolFile(
        path=path,
        tool=f"GuideLLM {version}".strip(),
        requests=requests,
        said={
            "model": (_part(benchmark, "backend") or {}).get("model"),
            "started_at": datetime.fromtimestamp(start, UTC).isoformat() if start else None,
            "rate": rate,
        },
        closed=closed,
        load=load,
        assumed=_warm_up(benchmark),
        notes={"benchmark": f"{place + 1} of {len(benchmarks)}"},
    )
    return recording_of(told, given)


def _part(benchmark: Mapping[str, Any], name: str) -> Any:
    """A part of the benchmark's configuration."""
    return (benchmark.get("config") or {}).get(name)


def _load(benchmark: Mapping[str, Any]) -> tuple[bool, str, float | None]:
    """Whether it is a closed loop, the load in words, the rate."""
    strategy = _part(benchmark, "strategy") or {}
    kind = strategy.get("type_", "unknown")
    if kind in CLOSED:
        streams = 1 if kind == "synchronous" else strategy.get("streams") or strategy.get("max_concurrency")
        return True, f"closed loop of {streams or 'as many as the client can hold'}", None
    rate = strategy.get("rate")
    return False, f"open loop, {kind}" + (f", {rate:g} requests/s" if rate is not None else ""), rate


def _requests(where: str, benchmark: Mapping[str, Any]) -> Iterator[Timed]:
    groups = benchmark.get("requests")
    if not isinstance(groups, dict):
        raise RecordingError(f"{where}: it has no requests")
    line = 0
    for kind in KINDS:
        for request in groups.get(kind) or ():
            line += 1
            timed = _timed(f"{where}, request {line}", line, kind, mapping(where, request))
            if timed.sent is not None or timed.arrival is not None:
                yield timed  # one without either was cut off by the end of the benchmark before it was due


def _timed(where: str, line: int, kind: str, request: Mapping[str, Any]) -> Timed:
    info = request.get("info")
    timings = info.get("timings") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(timings, dict):
        raise RecordingError(f"{where}: no info.timings; files of GuideLLM before 0.4 cannot be imported")
    first, last = (next((optional_number(where, timings, name) for name in names if name in timings), None) for names in (FIRST, LAST))
    error = None if kind == "successful" else last_line(str(info.get("error") or f"{kind}: stopped by the client"))
    counts = {name: None if request.get(name) is None else integer(where, request, name) for name in ("prompt_tokens", "output_tokens")}
    seen = timings.get("token_iterations", timings.get("iterations"))
    return Timed(
        line=line,
        sent=optional_number(where, timings, "request_start"),
        arrival=optional_number(where, timings, "targeted_start"),
        first_token=first,
        finished=(optional_number(where, timings, "request_end") if last is None else last) if error is None else None,
        input_tokens=counts["prompt_tokens"],
        output_tokens=counts["output_tokens"] if error is None else seen,
        cached_tokens=None if request.get("cached_tokens") is None else integer(where, request, "cached_tokens"),
        error=error,
    )


def _warm_up(benchmark: Mapping[str, Any]) -> dict[str, str]:
    """GuideLLM leaves the beginning and the end out of its metrics where it is told to; its file has all requests."""
    times = benchmark.get("scheduler_metrics") or {}
    begin, end = (float(benchmark.get(name) or 0.0) for name in ("warmup_duration", "cooldown_duration"))
    if not begin and not end:
        return {}
    length = float(times.get("request_end_time") or 0.0) - float(times.get("request_start_time") or 0.0)
    return {"window": f"all requests; the tool's own metrics are of {begin:g} to {length - end:g} s: give --window to score the same"}
