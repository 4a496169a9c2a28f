"""What `guidellm run` (or `guidellm benchmark`) writes as JSON: a report with one benchmark or several, and each request of each.

Source: vllm-project/guidellm 0.3.1, 0.4.0 and 0.8.1, and the files that the first and the last wrote. Times of day in s. Of the tokens it
has the first and the last only.
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
MOMENTS = {
    "due": "targeted_start",
    "sent": "request_start",
    "first": "first_token_iteration",
    "last": "last_token_iteration",
    "ended": "request_end",
}
MOMENTS_BEFORE_0_4 = {
    "due": "targeted_start_time",
    "sent": "start_time",
    "first": "first_token_time",
    "last": "last_token_time",
    "ended": "end_time",
}


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
            "model": (_part(benchmark, "backend") or {}).get("model") or (benchmark.get("worker") or {}).get("backend_model"),
            "started_at": datetime.fromtimestamp(start, UTC).isoformat() if start else None,
            "rate": rate,
        },
        closed=closed,
        load=load,
        assumed=_window(benchmark),
        notes={"benchmark": f"{place + 1} of {len(benchmarks)}"},
    )
    return recording_of(told, given)


def _part(benchmark: Mapping[str, Any], name: str) -> Any:
    """A part of the benchmark's configuration (`args` before 0.4)."""
    return (benchmark.get("config") or benchmark.get("args") or {}).get(name)


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
    moments = _moments(where, request)
    first, last, ended = (moments[name] for name in ("first", "last", "ended"))
    info = request.get("info") or {}
    error = None if kind == "successful" else last_line(str(info.get("error") or request.get("error") or f"{kind}: stopped by the client"))
    counts = {
        name: None if request.get(name) is None else integer(where, request, name)
        for name in ("prompt_tokens", "output_tokens", "cached_tokens")
    }
    seen = (info.get("timings") or {}).get("token_iterations")
    return Timed(
        line=line,
        sent=moments["sent"],
        arrival=moments["due"],
        first_token=first,
        finished=(ended if last is None else last) if error is None else None,
        input_tokens=counts["prompt_tokens"],
        output_tokens=counts["output_tokens"] if error is None or seen is None else seen,
        cached_tokens=counts["cached_tokens"],
        error=error,
    )


def _moments(where: str, request: Mapping[str, Any]) -> dict[str, float | None]:
    """When a request was due, sent and answered, in the file of this release or of those before 0.4 (which have -1 for what never was)."""
    info, before = request.get("info"), request.get("scheduler_info")
    if isinstance(info, dict) and isinstance(info.get("timings"), dict):
        places, names = [info["timings"]], MOMENTS
    elif isinstance(before, dict):
        places, names = [request, before], MOMENTS_BEFORE_0_4
    else:
        raise RecordingError(f"{where}: neither info.timings nor scheduler_info; its times cannot be told")
    found = {
        ours: next((optional_number(where, place, theirs) for place in places if theirs in place), None) for ours, theirs in names.items()
    }
    return {name: None if time == -1 else time for name, time in found.items()}


def _window(benchmark: Mapping[str, Any]) -> dict[str, str]:
    """GuideLLM leaves the warm-up and the cool-down out of its metrics where it is told to; its file has all requests."""
    names = ("request_start_time", "measure_start_time", "measure_end_time", "request_end_time")
    times = [(benchmark.get("scheduler_metrics") or {}).get(name) for name in names]
    if None in times or (times[0] == times[1] and times[2] == times[3]):
        return {}
    start, begin, end, _ = (float(time or 0.0) for time in times)
    return {
        "window": f"all requests; the tool's own metrics are of {begin - start:.3f} to {end - start:.3f} s: give --window to score the same"
    }
