"""Closed loops on a real server: what holds by the client's own timestamps, however slow the machine is."""

import dataclasses
from itertools import pairwise

import pytest

from harness.replay.client import Client, Replay
from tests.harness.replay.test_client import CLIENT, endpoint, server, trace_of  # noqa: F401 - a fixture
from tests.stand_ins import null_server
from workloads.release import ClosedLoop


def replay(url: str, loop: ClosedLoop, requests: int, *, model: str = "none", client: Client = CLIENT) -> Replay:
    trace = trace_of([0.0] * requests)
    prompts = [[i] * r.input_tokens for i, r in enumerate(trace)]
    return client.replay(endpoint(url, model), trace, prompts, release=loop.over(requests))


def most_in_flight(result: Replay) -> int:
    """The most requests that were under way at any moment, by when each was sent and its last byte read."""
    sent = [(r.sent, 1) for r in result.records if r.sent is not None]
    events = sorted([*sent, *((end, -1) for end in result.ended if end is not None)])
    level = most = 0
    for _, change in events:
        level += change
        most = max(most, level)
    return most


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_a_slot_takes_the_next_request_when_its_last_one_has_ended(server: str, concurrency: int) -> None:  # noqa: F811
    result = replay(server, ClosedLoop(concurrency=concurrency), 40)
    assert [r.error for r in result.records] == [None] * 40
    assert most_in_flight(result) == concurrency
    ends = sorted(end for end in result.ended if end is not None)
    arrivals = [r.arrival for r in result.records]
    assert arrivals[:concurrency] == [0.0] * concurrency
    assert arrivals[concurrency:] == ends[: 40 - concurrency]  # the moments at which slots became free
    assert all(r.sent is not None and r.sent >= r.arrival for r in result.records)
    assert [r.arrival for r in result.trace] == arrivals
    assert [r.request_id for r in result.trace] == [r.request_id for r in result.records] == list(range(100, 140))


def test_the_ramp_spreads_the_first_requests(server: str) -> None:  # noqa: F811
    result = replay(server, ClosedLoop(concurrency=4, ramp=0.2), 8)
    assert {r.request_id: r.arrival for r in result.records if r.request_id < 104} == pytest.approx(
        {100: 0.0, 101: 0.05, 102: 0.1, 103: 0.15}
    )
    assert all(r.sent is not None and r.sent >= r.arrival for r in result.records)


def test_after_its_duration_no_slot_takes_another_and_what_is_under_way_ends(server: str) -> None:  # noqa: F811
    result = replay(server, ClosedLoop(concurrency=2, duration=0.3), 10_000)
    assert 2 < len(result.trace) == len(result.records) < 10_000
    assert all(r.error is None for r in result.records)
    assert all(r.arrival <= 0.3 for r in result.trace)
    assert all(a.arrival <= b.arrival for a, b in pairwise(result.trace))


@pytest.mark.parametrize("model", ["http_500", "cut", "reset"])
def test_a_slot_whose_request_failed_takes_the_next(server: str, model: str) -> None:  # noqa: F811
    result = replay(server, ClosedLoop(concurrency=2), 12, model=model)
    assert len(result.records) == 12 and all(r.error is not None for r in result.records)
    assert most_in_flight(result) <= 2


def test_the_drain_limit_counts_from_the_last_slot_that_became_free(server: str) -> None:  # noqa: F811
    client = dataclasses.replace(CLIENT, drain_timeout=0.5)
    result = replay(server, ClosedLoop(concurrency=2), 6, model="silent", client=client)
    assert {r.error for r in result.records} == {"not finished 0.5 s after the last arrival (client.drain_timeout)"}
    assert len(result.records) >= 2


def test_a_server_that_dies_ends_the_loop_with_the_requests_that_were_due() -> None:
    with null_server.running("--ttft", "0.01", "--itl", "0.002") as running:
        result = replay(running.url, ClosedLoop(concurrency=4), 5_000, model="die")
    assert 4 <= len(result.records) < 5_000
    assert all(r.error is not None for r in result.records)


@pytest.mark.parametrize(("settings", "said"), [({"concurrency": 0}, "at least 1"), ({"concurrency": 2, "ramp": -1.0}, "ramp")])
def test_a_loop_without_slots_or_with_a_negative_ramp_is_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClosedLoop(**settings)  # type: ignore[arg-type]
