"""What a simulator's records become beside the measured ones."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from results.record import RequestRecord, Run
from results.record_table import RecordTable
from simulators.errors import SimulatorError
from simulators.native.adapter import Native
from simulators.simulator import simulated_run
from tests.simulators.profiles import make_measured, overtaken, unsent

RUN = make_measured([(0.5, 100, 3), (0.5014, 50, 2), (0.7, 80, 1)], first_id=7)


def answers(run: Run) -> tuple[RequestRecord, ...]:
    """A simulator's, in the order of sending; the second shows no token times."""
    return tuple(
        RequestRecord(
            request_id=r.request_id,
            arrival=r.arrival,
            sent=r.arrival,
            first_token=r.arrival + 0.1,
            finished=r.arrival + 0.1 * r.output_tokens,
            input_tokens=r.input_tokens,
            output_tokens=r.output_tokens,
            token_times=None if place == 1 else tuple(r.arrival + 0.1 * (k + 1) for k in range(r.output_tokens)),
        )
        for place, r in enumerate(run.trace_as_sent())
    )


def beside(run: Run, records: Iterable[RequestRecord]) -> Run:
    told: dict[str, Any] = {"version": "1", "track": "matched", "wall_s": 0.1, "config": {}, "provenance": {}}
    return simulated_run(run, records, system="x", coverage=Native.coverage, **told)


@pytest.mark.parametrize("run", [RUN, overtaken(RUN, 0), unsent(RUN, 0), unsent(RUN, 1)])
def test_every_answer_stands_beside_its_request_however_it_is_held(run: Run) -> None:
    """At the measured arrival and sending time, all else as the simulator said it; what was never sent is a failure."""
    said = {r.request_id: r for r in answers(run)}
    expected = [
        dataclasses.replace(said[m.request_id], arrival=m.arrival, sent=m.sent)
        if m.sent is not None
        else RequestRecord(request_id=m.request_id, arrival=m.arrival, error="not sent in the measured run")
        for m in run.records
    ]
    assert list(beside(run, iter(answers(run))).records) == list(beside(run, RecordTable.of(answers(run))).records) == expected


def test_lost_unknown_and_repeated_answers_are_named() -> None:
    first, *rest = answers(RUN)
    with pytest.raises(SimulatorError, match=r"x: 3 requests in, 2 records out; missing ids \[7\], unknown ids \[\]"):
        beside(RUN, rest)
    with pytest.raises(SimulatorError, match=r"3 requests in, 4 records out; missing ids \[\], unknown ids \[99\]"):
        beside(RUN, [first, *rest, dataclasses.replace(first, request_id=99)])
    with pytest.raises(SimulatorError, match="3 requests in, 4 records out"):
        beside(RUN, [first, *rest, first])
