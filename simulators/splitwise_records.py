"""What Splitwise-sim writes, and the token times beside it, checked against each other and turned into RequestRecords."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.record import RequestRecord
from simulators.external import check_finite, check_rows, describe_log
from simulators.splitwise_files import SHIFT, asked_tokens
from simulators.system import SimulatorError
from workloads.trace import Request

LOCKED = (
    "it ends so when the KV cache is full of prompts that wait for room for their answers; use a lower load, or "
    "simulators.splitwise_sim.instance=orca, which takes requests in one after the other"
)
TOLERANCE = 1e-6  # s between its results and the token times


def read_results(path: Path, requests: Sequence[Request], log: Path) -> dict[int, dict[str, float]]:
    """detailed/0.csv by the request's place in the trace. Raises SimulatorError for missing rows, NaN and changed token counts."""
    if not path.is_file():
        raise SimulatorError(f"splitwise_sim: it ended without its results; {describe_log(log)}")
    with path.open(newline="") as file:
        rows = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    ids = {index: request.request_id for index, request in enumerate(requests)}
    places = [int(row["request_ids"]) for row in rows]
    try:
        check_rows("splitwise_sim", list(ids.values()), [ids.get(place, place) for place in places], log)
    except SimulatorError as error:
        raise SimulatorError(f"{error}; {LOCKED}") from error
    for place, row in zip(places, rows, strict=True):
        check_finite("splitwise_sim", ids[place], row, log)
        request = requests[place]
        asked, got = (request.input_tokens, asked_tokens(request)), (int(row["prompt_sizes"]), int(row["token_sizes"]))
        if asked != got:
            raise SimulatorError(f"splitwise_sim: request {ids[place]} of {asked} tokens was simulated as {got}; {describe_log(log)}")
    return dict(zip(places, rows, strict=True))


def to_records(
    requests: Sequence[Request],
    results: Mapping[int, Mapping[str, float]],
    tokens: Sequence[Sequence[float]],
    transfers: Mapping[int, float],
    log: Path,
) -> list[RequestRecord]:
    """One record per request. tokens, transfers (of KV caches, their ends): s since the trace's start.

    A first token is seen when the KV cache has reached the instance that goes on, where there is such a transfer.
    Raises SimulatorError when tokens and results contradict each other.
    """
    records = []
    for place, (request, times) in enumerate(zip(requests, tokens, strict=True)):
        row = results[place]
        e2e, ttft, delay = row["response_times"], row["ttft_times"], row["queue_times"]
        agree = len(times) == asked_tokens(request) and all(
            abs(time - request.arrival - since) < TOLERANCE for time, since in ((times[0], ttft), (times[-1], e2e))
        )
        if not agree or not 0 <= delay <= ttft <= e2e:
            raise SimulatorError(
                f"splitwise_sim: request {request.request_id} has queue time {delay} s, TTFT {ttft} s, E2E {e2e} s and {len(times)} token "
                f"times for {asked_tokens(request)} tokens, which contradict each other; {describe_log(log)}"
            )
        seen = (transfers.get(place, times[0]), *times[1 : request.output_tokens])
        records.append(
            RequestRecord(
                request_id=request.request_id,
                arrival=request.arrival,
                sent=request.arrival,
                scheduled=request.arrival + delay,
                first_token=seen[0],
                finished=seen[-1],
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
                token_times=seen,
            )
        )
    return records


def read_transfers(path: Path) -> dict[int, float]:
    """request_nodes.csv: when each request's KV cache had reached the decode instance, in s since the trace's start; {} without any."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["node_type"] == "KVCacheTransfer"]
    return {int(float(row["request_id"])): float(row["completion_timestamp"]) - SHIFT for row in rows}
