"""What Frontier writes, read back: request_metrics.csv (a row per request) and its ledger of steps (a line per step)."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, check_tokens, describe_log
from simulators.foreign.vidur_kin import TOLERANCE, RequestOutcome, agree, with_ends
from simulators.frontier.files import SYSTEM
from workloads.trace import Request

MS = 1e-3
COLUMNS = ("request_first_scheduling_delay", "ttft", "request_e2e_time")  # ms after the arrival
COUNTS = ("request_num_prefill_tokens", "request_num_decode_tokens", "request_total_preemption_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStep:
    """One step of an instance: when it ended (s), the requests in it by their place in the trace, and the tokens of each."""

    end: float
    rows: tuple[int, ...]
    tokens: tuple[int, ...]


def output_folder(out: Path, log: Path) -> Path:
    """The folder below `out` that it wrote into. Raises SimulatorError when there is none, or not one only."""
    found = sorted(path.parent for path in out.rglob("request_metrics.csv"))
    if len(found) != 1:
        raise SimulatorError(f"{SYSTEM}: it ended with {len(found)} files request_metrics.csv, 1 expected; {describe_log(log)}")
    return found[0]


def read_output(folder: Path, requests: Sequence[Request], log: Path) -> tuple[list[RequestOutcome], list[LedgerStep]]:
    """Both files, in the requests' order. Raises SimulatorError when one is missing, cut short, or not what was asked."""
    try:
        return read_outcomes(folder / "request_metrics.csv", requests, log), read_steps(folder / "frontier_stage_batch_ledger.jsonl")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise SimulatorError(f"{SYSTEM}: its output in {folder} cannot be read: {what}; {describe_log(log)}") from error


def read_outcomes(path: Path, requests: Sequence[Request], log: Path) -> list[RequestOutcome]:
    """A RequestOutcome per request. Raises SimulatorError for missing rows, NaN and changed token counts."""
    with path.open(newline="") as file:
        rows = {int(row["Request Id"]): row for row in csv.DictReader(file)}
    known = {place: request.request_id for place, request in enumerate(requests)}
    check_rows(SYSTEM, list(known.values()), [known.get(place, place) for place in rows], log)
    return [_outcome(request, rows[place], log) for place, request in enumerate(requests)]


def _outcome(request: Request, row: Mapping[str, str], log: Path) -> RequestOutcome:
    if not row.get("request_e2e_time"):
        raise SimulatorError(
            f"{SYSTEM}: request {request.request_id} never ended; it loses a request that it preempts after its first token, which it does "
            f"when the KV cache is full; use a lower load; {describe_log(log)}"
        )
    values = {column: float(row.get(column) or "nan") for column in (*COLUMNS, *COUNTS)}
    check_finite(SYSTEM, request.request_id, values, log)
    inputs, outputs, preemptions = (int(values[column]) for column in COUNTS)
    check_tokens(SYSTEM, request, inputs, outputs, log)
    delay, ttft, e2e = (values[column] * MS for column in COLUMNS)
    return RequestOutcome(delay=delay, ttft=ttft, e2e=e2e, preemptions=preemptions)


def read_steps(path: Path) -> list[LedgerStep]:
    """The ledger, by the steps' ends."""
    with path.open() as file:
        lines = [json.loads(line) for line in file]
    steps = [
        LedgerStep(
            end=float(line["stage_end_ts"]),
            rows=tuple(int(row) for row in line["request_ids"]),
            tokens=tuple(int(count) for count in line["request_num_tokens"]),
        )
        for line in lines
    ]
    return sorted(steps, key=lambda step: step.end)


def token_times(steps: Sequence[LedgerStep], requests: Sequence[Request]) -> list[list[float]]:
    """Per request, the ends of its last steps, as many as it has output tokens: the one that ends its prompt, and every one after it."""
    ends: list[list[float]] = [[] for _ in requests]
    for step in steps:
        for row in step.rows:
            ends[row].append(step.end)
    return [times[-request.output_tokens :] for request, times in zip(requests, ends, strict=True)]


def cached_tokens(steps: Sequence[LedgerStep], requests: Sequence[Request], *, apart: bool) -> list[int]:
    """Per request, the tokens of its prompt that no step computed. apart: the decode instance computes all output tokens, the first too.

    Negative for one that was preempted: part of it was computed twice.
    """
    left = [request.input_tokens + request.output_tokens - (not apart) for request in requests]
    for step in steps:
        for row, count in zip(step.rows, step.tokens, strict=True):
            left[row] -= count
    return left


def records(
    requests: Sequence[Request], outcomes: Sequence[RequestOutcome], steps: Sequence[LedgerStep], *, apart: bool, offset: float, log: Path
) -> list[RequestRecord]:
    """One record per request, in their order. requests: as simulated, each arriving when it was sent.

    apart: prefill and decode on instances of their own; the client reads from the latter, whose first step gives its first token. offset:
    seconds added to everything that a client sees. Token times are None for a request that was preempted. Raises SimulatorError when the
    two files contradict each other, or time runs backwards.
    """
    result = []
    found = zip(requests, outcomes, token_times(steps, requests), cached_tokens(steps, requests, apart=apart), strict=True)
    for request, outcome, ends, cached in found:
        first = ends[0] if apart and ends else request.arrival + outcome.ttft
        finished, preempted = request.arrival + outcome.e2e, outcome.preemptions > 0
        whole = preempted or agree(ends, request, first, finished)
        if not 0 <= outcome.delay <= first - request.arrival <= outcome.e2e + TOLERANCE or not whole:
            raise SimulatorError(
                f"{SYSTEM}: request {request.request_id} has delay {outcome.delay} s, TTFT {first - request.arrival} s, "
                f"E2E {outcome.e2e} s and {len(ends)} token times for {request.output_tokens} tokens, which contradict each other; "
                f"{describe_log(log)}"
            )
        result.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival,
                scheduled=request.arrival + outcome.delay,
                first_token=first + offset,
                finished=max(first, finished) + offset,
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
                token_times=None if preempted else tuple(time + offset for time in with_ends(ends, first, max(first, finished))),
                cached_tokens=None if preempted else cached,
            )
        )
    return result
