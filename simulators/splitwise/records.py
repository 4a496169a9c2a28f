"""What Splitwise-sim writes, and the token times beside it, checked against each other and turned into RequestRecords."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, describe_log
from simulators.inputs import answered
from simulators.splitwise.files import asked_tokens
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
    log: Path,
    *,
    unseen: int,
) -> list[RequestRecord]:
    """One record per request. tokens: s since the trace's start. unseen: how many of the first ones no client sees (`handed_over`).

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
        seen = times[unseen : request.output_tokens]
        records.append(answered(request, scheduled=request.arrival + delay, token_times=seen))
    return records
