"""Six requests whose metrics can be computed by hand: all times are binary fractions, so that sums and quotients are exact."""

import dataclasses
from typing import Any

from results.record import SLO, RequestRecord, Run
from tests.runs import make_run
from workloads.trace import Request, Trace


def _even(first: float, last: float, n: int) -> tuple[float, ...]:
    return tuple(first + k * (last - first) / (n - 1) for k in range(n))


RECORDS = (
    # before the window [1, 3], but five of its six tokens fall inside
    RequestRecord(
        request_id=0,
        arrival=0.5,
        sent=0.5,
        scheduled=0.5,
        first_token=0.75,
        finished=2.0,
        input_tokens=10,
        output_tokens=6,
        cached_tokens=8,
        token_times=_even(0.75, 2.0, 6),
    ),
    # on the window's first instant; on its TTFT limit: good
    RequestRecord(
        request_id=1,
        arrival=1.0,
        sent=1.125,
        scheduled=1.25,
        first_token=1.5,
        finished=2.0,
        input_tokens=20,
        output_tokens=5,
        cached_tokens=4,
        token_times=_even(1.5, 2.0, 5),
    ),
    # late, in pairs of tokens; two of five tokens inside (by the even formula)
    RequestRecord(
        request_id=2,
        arrival=2.0,
        sent=2.0,
        scheduled=2.25,
        first_token=2.75,
        finished=3.75,
        input_tokens=30,
        output_tokens=5,
        cached_tokens=0,
        token_times=(2.75, 2.75, 3.25, 3.25, 3.75),
    ),
    # one token: no TPOT, good all the same
    RequestRecord(
        request_id=3,
        arrival=2.5,
        sent=2.5,
        scheduled=2.5,
        first_token=2.75,
        finished=2.75,
        input_tokens=7,
        output_tokens=1,
        cached_tokens=1,
        token_times=(2.75,),
    ),
    # on the window's last instant; it broke off after some tokens
    RequestRecord(
        request_id=4,
        arrival=3.0,
        sent=3.0,
        scheduled=3.0,
        first_token=3.0,
        finished=3.0,
        output_tokens=2,
        token_times=(3.0, 3.0),
        error="the stream ended early",
    ),
    # after the window
    RequestRecord(
        request_id=5,
        arrival=3.25,
        sent=3.25,
        scheduled=3.25,
        first_token=3.5,
        finished=4.0,
        input_tokens=5,
        output_tokens=3,
        cached_tokens=0,
        token_times=_even(3.5, 4.0, 3),
    ),
)

TRACE = Trace(
    name="hand", requests=tuple(Request(request_id=r.request_id, arrival=r.arrival, input_tokens=8, output_tokens=4) for r in RECORDS)
)


def hand_run(**changes: Any) -> Run:
    """The six requests, window [1, 3], limits TTFT 0.5 s and TPOT 0.1875 s."""
    run = make_run("hand", trace=TRACE, telemetry=False, slo=SLO(ttft=0.5, tpot=0.1875))
    fields: dict[str, Any] = {"records": RECORDS, "window": (1.0, 3.0), **changes}
    return dataclasses.replace(run, **fields)


def change_record(run: Run, request_id: int, **changes: Any) -> Run:
    """The run with one request's record changed."""
    records = tuple(dataclasses.replace(r, **changes) if r.request_id == request_id else r for r in run.records)
    return dataclasses.replace(run, records=records)
