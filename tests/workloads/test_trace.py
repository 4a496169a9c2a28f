"""What a Trace promises, and what its name is."""

import math

import pytest

from workloads.trace import Request, Trace, TraceError


def request(i: int = 0, arrival: float = 0.0, n: int = 4, blocks: tuple[int, ...] = ()) -> Request:
    return Request(request_id=i, arrival=arrival, input_tokens=n, output_tokens=2, blocks=blocks)


def test_the_sha256_names_the_content_and_nothing_else() -> None:
    base = Trace(name="a", requests=(request(0), request(1, 1.0)))
    assert Trace(name="b", requests=base.requests).sha256 == base.sha256
    others = [
        Trace(name="a", requests=(request(0), request(1, 1.5))),
        Trace(name="a", requests=(request(0), request(2, 1.0))),
        Trace(name="a", requests=(request(0), request(1, 1.0, n=5))),
        Trace(name="a", requests=base.requests, block_size=16),
        Trace(name="a", requests=(request(0, blocks=(1,)), request(1, 1.0)), block_size=16),
        Trace(name="a", requests=(request(0, blocks=(2,)), request(1, 1.0)), block_size=16),
    ]
    assert len({trace.sha256 for trace in [base, *others]}) == 7


@pytest.mark.parametrize(
    ("requests", "block_size", "said"),
    [
        ((), None, "no requests"),
        ((request(0, 2.0), request(1, 1.0)), None, "row 1 .request 1.: arrivals must not decrease"),
        ((request(0), request(0)), None, "request_id 0 appears twice"),
        ((request(0, 1.7e9),), None, "wall-clock"),
        ((request(0, blocks=(1,)),), None, "needs a block_size"),
        ((request(0, n=16, blocks=(1, 2)),), 16, "has only 1"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_refused(requests: tuple[Request, ...], block_size: int | None, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        Trace(name="t", requests=requests, block_size=block_size)


@pytest.mark.parametrize("arrival", [-1.0, math.nan, math.inf])
def test_an_arrival_is_a_finite_time_from_zero(arrival: float) -> None:
    with pytest.raises(TraceError, match="arrival must be"):
        request(arrival=arrival)


def test_the_rate_is_gaps_over_the_span() -> None:
    assert Trace(name="t", requests=(request(0, 1.0), request(1, 2.0), request(2, 5.0))).rate == 0.5
    assert Trace(name="t", requests=(request(0), request(1))).rate is None


def test_other_arrivals_keep_the_requests_and_sort_them() -> None:
    trace = Trace(name="t", requests=(request(0, 0.0, 5), request(1, 1.0, 6)))
    moved = trace.with_arrivals([3.0, 2.0])
    assert [(r.request_id, r.arrival, r.input_tokens) for r in moved] == [(1, 2.0, 6), (0, 3.0, 5)]
