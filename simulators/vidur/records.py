"""What Vidur writes: request_metrics.csv and chrome_trace.json, checked and turned into RequestRecords and Steps."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, check_tokens, describe_log
from simulators.foreign.vidur_kin import RequestOutcome, agree, with_ends
from workloads.trace import Request

COLUMNS = (  # of request_metrics.csv; times in s after the request's arrival, counts as they were at its arrival
    "prefill_e2e_time",
    "request_e2e_time",
    "request_scheduling_delay",
    "request_num_prefill_tokens",
    "request_num_decode_tokens",
    "request_num_restarts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VidurStep:
    """One step of the engine: its composition, and when it ended (s). context: mean KV tokens of its decodes, 0 without any."""

    end: float
    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    prefill_tokens: int
    prefill_context: int
    batch: int
    context: float


def read_output(out: Path, requests: Sequence[Request], log: Path) -> tuple[list[RequestOutcome], list[VidurStep]]:
    """Both files of Vidur's output folder. Raises SimulatorError when one is missing, cut short, or not what was asked."""
    try:
        return read_outcomes(out, requests, log), read_steps(out, requests)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SimulatorError(f"vidur: its output in {out} cannot be read: {type(error).__name__}: {error}; {describe_log(log)}") from error


def read_outcomes(out: Path, requests: Sequence[Request], log: Path) -> list[RequestOutcome]:
    """request_metrics.csv, in the requests' order. Raises SimulatorError for missing rows, NaN and changed token counts."""
    with (out / "request_metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = {index: request.request_id for index, request in enumerate(requests)}
    indices = [int(float(row["Request Id"])) for row in rows]
    check_rows("vidur", list(ids.values()), [ids.get(index, index) for index in indices], log)
    outcomes = {}
    for index, row in zip(indices, rows, strict=True):
        values = {column: float(row.get(column) or "nan") for column in COLUMNS}
        check_finite("vidur", ids[index], values, log)
        check_tokens("vidur", requests[index], int(values["request_num_prefill_tokens"]), int(values["request_num_decode_tokens"]), log)
        outcomes[index] = RequestOutcome(
            ttft=values["prefill_e2e_time"],
            e2e=values["request_e2e_time"],
            delay=values["request_scheduling_delay"],
            preemptions=int(values["request_num_restarts"]),
        )
    return [outcomes[index] for index in range(len(requests))]


def read_steps(out: Path, requests: Sequence[Request]) -> list[VidurStep]:
    """chrome_trace.json as steps in their order. A restarted request's prefill is not told apart from its decodes."""
    events = json.loads((out / "chrome_trace.json").read_text())["traceEvents"]
    done = [0] * len(requests)
    steps = []
    for event in sorted(events, key=lambda e: e["ts"]):
        args = event["args"]
        rows, tokens = tuple(args["request_ids"]), tuple(int(t) for t in args.get("num_q_tokens", args.get("num_tokens")))
        prefill = [(done[r], t) for r, t in zip(rows, tokens, strict=True) if done[r] < requests[r].input_tokens]
        contexts = [done[r] + 1 for r in rows if done[r] >= requests[r].input_tokens]
        steps.append(
            VidurStep(
                end=(event["ts"] + event["dur"]) / 1e6,
                rows=rows,
                tokens=tokens,
                prefill_tokens=sum(t for _, t in prefill),
                prefill_context=max((before for before, _ in prefill), default=0),
                batch=len(contexts),
                context=sum(contexts) / len(contexts) if contexts else 0.0,
            )
        )
        for row, count in zip(rows, tokens, strict=True):
            done[row] += count
    return steps


def token_times(steps: Sequence[VidurStep], requests: Sequence[Request]) -> list[list[float]]:
    """Per request, the end of each step that gave it a token: the one that ends its prefill, and every one after it."""
    done = [0] * len(requests)
    times: list[list[float]] = [[] for _ in requests]
    for step in steps:
        for row, count in zip(step.rows, step.tokens, strict=True):
            done[row] += count
            if done[row] >= requests[row].input_tokens:
                times[row].append(step.end)
    return times


def records(
    requests: Sequence[Request], outcomes: Sequence[RequestOutcome], steps: Sequence[VidurStep], *, offset: float, log: Path
) -> list[RequestRecord]:
    """One record per request, in their order. requests: as simulated, each arriving when it was sent.

    offset: seconds added to everything that a client sees. Token times are None for a request that was restarted.
    Raises SimulatorError when the two files contradict each other, or time runs backwards.
    """
    result = []
    for request, outcome, times in zip(requests, outcomes, token_times(steps, requests), strict=True):
        first, finished = request.arrival + outcome.ttft, request.arrival + outcome.e2e
        restarted = outcome.preemptions > 0
        whole = restarted or agree(times, request, first, finished)
        if not 0 <= outcome.delay <= outcome.ttft <= outcome.e2e or not whole:
            raise SimulatorError(
                f"vidur: request {request.request_id} has delay {outcome.delay} s, TTFT {outcome.ttft} s, E2E {outcome.e2e} s and "
                f"{len(times)} token times for {request.output_tokens} tokens, which contradict each other; {describe_log(log)}"
            )
        result.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival,
                scheduled=request.arrival + outcome.delay,
                first_token=first + offset,
                finished=finished + offset,
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
                token_times=None if restarted else tuple(t + offset for t in with_ends(times, first, finished)),
            )
        )
    return result
