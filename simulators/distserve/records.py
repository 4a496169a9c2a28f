"""What the driver saw of DistServe's simulator, checked and turned into RequestRecords; what of it goes beyond the profile is counted."""

from pathlib import Path
from typing import Any

import numpy as np

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, describe_log
from simulators.foreign.step_times import StepTimes
from simulators.inputs import answered, tokens_per_request
from workloads.trace import Request


def to_records(requests: tuple[Request, ...], out: Any, log: Path, *, unseen: int) -> list[RequestRecord]:
    """One record per request. unseen: how many of its first tokens no client sees (`handed_over`).

    Raises SimulatorError when rows or tokens are missing, or time runs backwards.
    """
    places, scheduling = out["request"], out["scheduled"].tolist()
    per_request = tokens_per_request(places, out["time"], len(requests))
    check_rows("distserve_sim", [r.request_id for r in requests], [requests[place].request_id for place in np.unique(places).tolist()], log)
    records = []
    for request, tokens, scheduled in zip(requests, per_request, scheduling, strict=True):
        check_finite("distserve_sim", request.request_id, {"scheduled": scheduled, "finished": tokens[-1]}, log)
        if len(tokens) != request.output_tokens or not request.arrival - 1e-9 <= scheduled <= tokens[0]:
            raise SimulatorError(
                f"distserve_sim: request {request.request_id}, sent at {request.arrival} s, was scheduled at {scheduled} s and got "
                f"{len(tokens)} of its {request.output_tokens} tokens, from {tokens[0]} s on; {describe_log(log)}"
            )
        records.append(answered(request, scheduled=max(request.arrival, scheduled), token_times=tokens[unseen:]))
    return records


def count_outside(times: StepTimes, out: Any) -> int:
    """Count steps outside of what the profile measured: with more tokens, sequences or context than any of its points."""
    steps = zip(out["prompt_tokens"].tolist(), out["decodes"].tolist(), out["context"].tolist(), strict=True)
    return sum(
        times.outside(tokens=int(prompt), prefill_context=0, batch=int(decodes), context=context / decodes if decodes else 0.0)
        for prompt, decodes, context in steps
    )


def count_cut(records: list[RequestRecord], out: Any, most: int) -> int:
    """Count decode steps that were cut at the hard-coded 50,000 tokens: they left running requests out though more sequences had room."""
    first = np.sort([r.first_token for r in records if r.output_tokens != 1])
    finished = np.sort([r.finished for r in records if r.output_tokens != 1])
    decoding = out["decodes"] > 0
    start, decodes = out["start"][decoding] + 1e-9, out["decodes"][decoding]
    running = np.searchsorted(first, start) - np.searchsorted(finished, start)
    return int((decodes < np.minimum(running, most)).sum())
