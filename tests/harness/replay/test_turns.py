"""Sessions on a real server: what holds by the client's own timestamps, however slow the machine is."""

import pytest

from harness.replay.client import Replay
from tests.harness.replay.test_client import CLIENT, endpoint, server  # noqa: F401 - a fixture
from workloads.trace import Request, Trace


def turn(number: int, after: tuple[int, ...] = (), delay: float = 0.0, *, arrival: float = 0.0) -> Request:
    return Request(request_id=number, arrival=arrival, input_tokens=9, output_tokens=16, after=after, delay=delay, session=number // 10)


# two sessions of three turns; one that branches and joins
TURNS = (
    turn(10),
    turn(20),
    turn(30),
    turn(11, (10,), 0.05),
    turn(21, (20,), 0.0),
    turn(31, (30,), 0.02),
    turn(32, (30,), 0.07),
    turn(12, (11,), 0.01),
    turn(22, (21,), 0.1),
    turn(33, (31, 32), 0.03),
)


def replay(url: str, model: str = "none") -> Replay:
    trace = Trace(name="sessions", requests=TURNS)
    return CLIENT.replay(endpoint(url, model), trace, [[i] * r.input_tokens for i, r in enumerate(trace)])


def test_a_turn_is_sent_when_those_before_have_ended_and_its_delay_is_over(server: str) -> None:  # noqa: F811
    result = replay(server)
    assert sorted(r.request_id for r in result.records) == sorted(r.request_id for r in TURNS)
    assert {r.error for r in result.records} == {None}
    ended = {r.request_id: end for r, end in zip(result.records, result.ended, strict=True)}
    for request, record in zip(result.trace, result.records, strict=True):
        assert request.arrival == record.arrival
        assert record.sent is not None and record.sent >= record.arrival
        if request.after:
            assert record.arrival == max(ended[other] or 0.0 for other in request.after) + request.delay


@pytest.mark.parametrize("model", ["http_500", "reset", "short"])
def test_the_turns_after_a_failed_one_fail_and_say_why(server: str, model: str) -> None:  # noqa: F811
    result = replay(server, model)
    assert sorted(r.request_id for r in result.records) == sorted(r.request_id for r in TURNS)
    assert all(r.error is not None for r in result.records)
    later = {r.request_id: r for r in result.records if r.request_id % 10}
    if model == "short":  # which only the answer's own words tell, after the replay
        assert all(r.sent is not None for r in later.values())
    else:
        assert all(r.sent is None for r in later.values())
        assert later[11].error == "not sent: request 10, which it waited for, failed"
        assert later[12].error == "not sent: request 11, which it waited for, failed"
        assert later[33].error == "not sent: request 31, which it waited for, failed"


def test_nobody_listens() -> None:
    result = replay("http://127.0.0.1:9")
    assert len(result.records) == len(TURNS) and all(r.error is not None and r.sent is None for r in result.records)
