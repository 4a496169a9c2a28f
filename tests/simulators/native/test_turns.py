"""Sessions in the simulator: a turn starts when the simulated one before it has ended."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from results import database
from results.record import RequestRecord, Run
from results.storage.store import read_run, write_run
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.harness.replay.test_turns import TURNS
from tests.simulators.native.cases import Linear
from tests.simulators.native.test_native import measured, native
from workloads.release import Turns
from workloads.trace import Trace

LIMITS = Limits(kv_blocks=100, block_size=16, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=64)
TRACE = Trace(name="sessions", requests=TURNS)


def test_a_turn_is_due_when_those_before_have_ended_and_its_delay_is_over() -> None:
    served = serve(TRACE, LIMITS, Linear(fixed=0.5), frontend=Frontend(before=0.1, after=0.2), release=Turns(TRACE))
    ended = {r.request_id: r.finished or 0.0 for r in served.records}
    for request, record in zip(TRACE, served.records, strict=True):
        due = max(ended[other] for other in request.after) + request.delay if request.after else 0.0
        assert (record.arrival, record.sent) == (due, due) and record.finished is not None


def test_the_turns_after_one_that_is_turned_away_fail_and_say_why() -> None:
    long = tuple(dataclasses.replace(r, input_tokens=60) if r.request_id == 31 else r for r in TURNS)
    trace = Trace(name="long", requests=long)
    served = serve(trace, LIMITS, Linear(fixed=0.5), frontend=Frontend(), release=Turns(trace))
    errors = {r.request_id: r.error for r in served.records if r.error is not None}
    assert errors.pop(31, "").startswith("refused")
    assert errors == {33: "not sent: request 31, which it waited for, failed"}


def run_of_sessions() -> Run:
    """A measured run: every turn lasts a second, due when those before have ended; request 32 and what waits for it failed."""
    records: dict[int, RequestRecord] = {}
    ended: dict[int, float] = {}
    for r in TURNS:
        due = max((ended[other] for other in r.after), default=0.0) + r.delay
        ended[r.request_id] = due + 1.0
        told: dict[str, Any] = {"sent": due, "first_token": due + 0.1, "finished": due + 1.0}
        told |= {"input_tokens": 9, "output_tokens": 16, "cached_tokens": 3}
        if r.request_id in (32, 33):
            told = {"error": "it failed"} if r.request_id == 32 else {"error": "not sent: request 32, which it waited for, failed"}
        records[r.request_id] = RequestRecord(request_id=r.request_id, arrival=due, **told)
    requests = sorted((dataclasses.replace(r, arrival=records[r.request_id].arrival) for r in TURNS), key=lambda r: r.arrival)
    trace = Trace(name="sessions", requests=tuple(requests))
    own = tuple(records[r.request_id] for r in trace)
    return dataclasses.replace(measured(), trace=trace, records=own, window=None, telemetry=None, rho=None)


def test_a_run_of_sessions_is_simulated_as_sessions(tmp_path: Path) -> None:
    asked = run_of_sessions()
    run = native().simulate(asked, track="matched", profile=None, scratch=tmp_path)
    assert run.trace == asked.trace and run.config["simulator"]["coverage"]["closed_loop"] == "yes"
    ended = {r.request_id: r.finished for r in run.records}
    waits = {r.request_id: r for r in asked.trace}
    for record in run.records:
        request = waits[record.request_id]
        if record.request_id not in (32, 33) and request.after:
            assert record.arrival == max(ended[other] or 0.0 for other in request.after) + request.delay
    assert read_run(write_run(tmp_path / "runs", run)).records == run.records


def test_session_metrics_are_those_of_the_definition(tmp_path: Path) -> None:
    run = run_of_sessions()
    write_run(tmp_path / "runs", run)
    database.build([tmp_path / "runs"], tmp_path / "x.duckdb")
    with database.connect(tmp_path / "x.duckdb") as connection:
        sessions = connection.execute("SELECT * EXCLUDE run_id FROM session_metrics ORDER BY session").fetchall()
        shares = connection.execute("SELECT turn, turns, cached_share FROM turn_cache ORDER BY turn").fetchall()
    assert sessions == [
        (1, 3, 0, pytest.approx(3.06), pytest.approx(180 / 3.06)),
        (2, 3, 0, pytest.approx(3.1), pytest.approx(180 / 3.1)),
        (3, 4, 2, None, None),
    ]
    assert shares == [(1, 3, pytest.approx(1 / 3)), (2, 3, pytest.approx(1 / 3)), (3, 2, pytest.approx(1 / 3))]
