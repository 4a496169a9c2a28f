"""The arrays, one value per request, that vLLM's and SGLang's clients write: lengths, time to first token, gaps between chunks, errors.

Source: vllm/benchmarks/serve.py (vllm 0.32.0), rust/src/bench/src/output/json.rs of the same, sglang/benchmark/serving.py (sglang 0.5.23).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

from results.recordings.recording import RecordingError
from results.recordings.tools.content import last_line, mapping, objects, one_of
from results.recordings.tools.start_times import reconstructed
from results.recordings.tools.tool_file import Timed
from workloads.rows import integer, number

NEEDED = ("input_lens", "output_lens", "ttfts", "itls", "errors")
OPTIONAL = ("start_times", "queue_times", "cached_tokens")


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """One benchmark's result."""

    result: Mapping[str, Any]  # all that the client wrote of it
    requests: Sequence[Timed]
    rate: float | None  # requests/s that were asked for; None: as many as there is room for
    closed: bool  # a request was sent when another had ended
    load: str  # in words
    assumed: Mapping[str, str]  # as in Recording


def client_result(path: Path, benchmark: int | None, *, named_by: str, option: str) -> ClientResult:
    """The result of a client's file that `benchmark` (from 1) names, or the only one. named_by: the field that tells results apart.

    option: the tool's word for writing the arrays. Raises RecordingError, TraceError.
    """
    where = str(path)
    results = [mapping(where, value) for value in objects(path)]
    names = [f"{r.get(named_by)}, rate {r.get('request_rate')}, at most {r.get('max_concurrency')} in flight" for r in results]
    result = one_of(path, results, names, benchmark)
    found = arrays(where, result, option=option)
    rate = rate_of(where, result)
    closed, load = load_of(rate, in_flight(where, result))
    requests, reconstructed = timed(where, result, found)
    return ClientResult(
        result=result,
        requests=requests,
        rate=None if rate == inf else rate,
        closed=closed,
        load=load,
        assumed={"sent": f"the file has no start times; the load fixes them: {load}"} if reconstructed else {},
    )


def arrays(where: str, result: Mapping[str, Any], *, option: str) -> dict[str, list[Any]]:
    """The arrays of a result. option: the tool's word for writing them. Raises RecordingError when one is missing or not as long."""
    lacking = [name for name in NEEDED if name not in result]
    if lacking:
        raise RecordingError(f"{where}: {', '.join(lacking)} missing: it is a summary; run the tool with {option}")
    found = {name: result[name] for name in (*NEEDED, *OPTIONAL) if result.get(name) is not None}
    for name, values in found.items():
        if not isinstance(values, list) or len(values) != len(found["ttfts"]):
            size = len(values) if isinstance(values, list) else "no"
            raise RecordingError(f"{where}: {name} has {size} values, ttfts has {len(found['ttfts'])}; is the file whole?")
    return found


def rate_of(where: str, result: Mapping[str, Any]) -> float:
    """The request rate that was asked for; inf: none. Raises TraceError."""
    rate = result.get("request_rate", "inf")
    return inf if rate in ("inf", inf) else number(where, result, "request_rate")


def in_flight(where: str, result: Mapping[str, Any]) -> int | None:
    """How many requests the client has in flight at most; None: any number. Raises TraceError."""
    return None if result.get("max_concurrency") is None else integer(where, result, "max_concurrency")


def load_of(rate: float, at_most: int | None) -> tuple[bool, str]:
    """Whether it is a closed loop, and the load in words."""
    if rate == inf:
        return at_most is not None, "all at once" if at_most is None else f"closed loop of {at_most}"
    limit = "" if at_most is None else f", at most {at_most} in flight"
    return False, f"open loop, {rate:g} requests/s{limit}"


def timed(where: str, result: Mapping[str, Any], found: Mapping[str, list[Any]]) -> tuple[list[Timed], bool]:
    """The requests, and whether the times of sending are reconstructed. Raises RecordingError, TraceError."""
    gaps = [_gaps(f"{where}:{place}", ttft, itl) for place, (ttft, itl) in enumerate(zip(found["ttfts"], found["itls"], strict=True), 1)]
    starts = found.get("start_times")
    if starts is None:
        starts = reconstructed(
            where,
            [sum(chunks) for chunks in gaps],
            rate=rate_of(where, result),
            at_most=in_flight(where, result),
            duration=number(where, result, "duration"),
            failed=sum(bool(error) for error in found["errors"]),
        )
    requests = [_timed(where, found, place, float(start), chunks) for place, (start, chunks) in enumerate(zip(starts, gaps, strict=True))]
    return requests, "start_times" not in found


def _gaps(where: str, ttft: Any, itl: Any) -> list[float]:
    """Seconds from the sending to the first chunk, and from each chunk to the next one."""
    if not isinstance(itl, list):
        raise RecordingError(f"{where}: itls must hold a list for each request, got {itl!r}")
    if all(type(time) is float and 0 <= time < inf for time in (ttft, *itl)):  # nearly all are, and there are millions
        return [ttft, *itl]
    values = [number(where, {"ttft": ttft}, "ttft"), *(number(where, {"itl": gap}, "itl") for gap in itl)]
    if min(values) < 0:
        raise RecordingError(f"{where}: a time of {min(values)} s; none can be negative")
    return values


def _timed(where: str, found: Mapping[str, list[Any]], place: int, start: float, gaps: Sequence[float]) -> Timed:
    line = place + 1
    counts = {name: integer(f"{where}:{line}", {name: found[name][place]}, name) for name in ("input_lens", "output_lens")}
    cached = found.get("cached_tokens", [None] * line)[place]
    waited = found["queue_times"][place] if "queue_times" in found else None
    chunks = tuple(accumulate(gaps, initial=start))[1:]
    error = last_line(found["errors"][place]) or None if found["errors"][place] else None
    came = gaps[0] > 0  # a client leaves 0 where no chunk came
    each = came and len(chunks) == counts["output_lens"]  # a chunk can hold several tokens, or none
    return Timed(
        line=line,
        sent=start,
        arrival=None if waited is None else start - number(f"{where}:{line}", {"queue_times": waited}, "queue_times"),
        first_token=chunks[0] if came else None,
        finished=chunks[-1] if came and error is None else None,
        token_times=chunks if each else None,
        input_tokens=counts["input_lens"],
        output_tokens=(len(chunks) if came else 0) if error is not None else counts["output_lens"],
        cached_tokens=None if cached is None else integer(f"{where}:{line}", {"cached_tokens": cached}, "cached_tokens"),
        error=error,
    )
