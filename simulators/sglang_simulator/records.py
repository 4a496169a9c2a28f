"""What SGLang's simulator writes, read back: request.jsonl (a line per request), iteration.jsonl (a line per step), the driver's report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, describe_log
from simulators.inputs import answered
from simulators.sglang_simulator.clone import SYSTEM
from workloads.trace import Request

TOLERANCE = 1e-6  # s between the arrival that was asked for and the one that it reports


@dataclass(frozen=True, kw_only=True)
class Output:
    """All that it said: a row per request by its place in the trace, a row per step, the driver's report."""

    rows: Mapping[int, Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, report: Path, log: Path) -> "Output":
        """folder: what it wrote into. Raises SimulatorError when a file is missing or cut short."""
        try:
            rows = [json.loads(line) for line in (folder / "request.jsonl").read_text().splitlines()]
            steps = [json.loads(line) for line in (folder / "iteration.jsonl").read_text().splitlines()]
            return cls(rows={int(row["rid"]): row for row in rows}, steps=steps, report=json.loads(report.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise SimulatorError(f"{SYSTEM}: its output in {folder} cannot be read: {what}; {describe_log(log)}") from error

    @property
    def batches(self) -> list[list[tuple[int, int]]]:
        """Of each step, (new tokens, cached tokens) of every request in it."""
        return [[(int(new), int(cached)) for new, cached in step["requests"]] for step in self.steps]

    def seconds(self, part: str) -> float:
        """s of all steps together: forward_latency is predicted, cpu_overhead the time that its scheduler really took."""
        return float(sum(step[part] for step in self.steps))


def records(output: Output, requests: Sequence[Request], start: float, log: Path) -> list[RequestRecord]:
    """A record per request. start: s of the trace at which its clock is 0.

    Raises SimulatorError for missing rows, and for a request whose tokens or arrival are others than were asked.
    """
    known = {place: request.request_id for place, request in enumerate(requests)}
    check_rows(SYSTEM, list(known.values()), [known.get(place, place) for place in output.rows], log)
    return [_record(output.rows[place], request, start, log) for place, request in enumerate(requests)]


def _record(row: Mapping[str, Any], request: Request, start: float, log: Path) -> RequestRecord:
    gaps = [float(gap) for gap in row["gen_token_latencies"]]
    created, admitted = (float(row[name]) + start for name in ("created_time", "queue_end"))
    check_finite(SYSTEM, request.request_id, {"created_time": created, "queue_end": admitted, "latencies": sum(gaps)}, log)
    got = int(row["input_length"]), len(gaps)
    if got != (request.input_tokens, request.output_tokens):
        raise SimulatorError(
            f"{SYSTEM}: request {request.request_id} of {request.input_tokens} + {request.output_tokens} tokens was simulated as "
            f"{got[0]} + {got[1]} (it counts a token for every chunk of a prompt that it computes again); {describe_log(log)}"
        )
    if abs(created - request.arrival) > TOLERANCE or min(gaps) < 0:
        raise SimulatorError(
            f"{SYSTEM}: request {request.request_id}, sent at {request.arrival} s, arrived at {created} s by its output, with latencies "
            f"from {min(gaps)} s on; {describe_log(log)}"
        )
    times = list(accumulate(gaps, initial=request.arrival))[1:]
    found = answered(request, scheduled=max(request.arrival, admitted), token_times=times)
    return replace(found, cached_tokens=int(row["final_device_hit_len"]))
