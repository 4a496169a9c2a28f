"""Several client processes on a real server: they send what one sends, keep sessions whole, and fail as one."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from harness.replay.client import Replay
from harness.replay.shards.crew import ShardError, cpus_for
from harness.replay.shards.share import share_out
from results.project.folder import ROOT
from tests.harness.replay.test_client import CLIENT, POISSON, endpoint, server, trace_of  # noqa: F401 - a fixture
from tests.harness.replay.test_closed_loop import most_in_flight
from tests.harness.replay.test_turns import TURNS, turn
from tests.patience import wait_until
from tests.stand_ins import null_server
from workloads.release import ClosedLoop, Release, Turns
from workloads.trace import Trace

TWO = dataclasses.replace(CLIENT, processes=2)
SESSIONS = Trace(name="sessions", requests=TURNS)


def replay(url: str, trace: Trace, *, processes: int = 2, model: str = "none", release: Release | None = None) -> Replay:
    client = dataclasses.replace(CLIENT, processes=processes)
    return client.replay(endpoint(url, model), trace, [[i] * r.input_tokens for i, r in enumerate(trace)], release=release)


def told(result: Replay) -> list[tuple[object, ...]]:
    return [(r.request_id, r.arrival, r.input_tokens, r.output_tokens, len(r.token_times or ()), r.error) for r in result.records]


def test_two_processes_send_what_one_sends_in_the_same_order(server: str) -> None:  # noqa: F811
    trace = trace_of([*POISSON, POISSON[-1]])  # two of one moment, too
    one, two = replay(server, trace, processes=1), replay(server, trace)
    assert told(two) == told(one)
    assert two.trace == one.trace == trace
    assert [r.request_id for r in two.trace] == [r.request_id for r in two.records]
    assert all(r.sent is not None and r.finished is not None and r.arrival <= r.sent <= r.finished <= two.wall_s for r in two.records)
    assert all(end is not None and end >= (r.finished or 0) for r, end in zip(two.records, two.ended, strict=True))
    first, second = two.shards
    assert first.request_ids == {100 + i for i in range(0, 61, 2)} and second.request_ids == {100 + i for i in range(1, 61, 2)}
    assert [first.cpu, second.cpu] == cpus_for(2) and first.cpu_s + second.cpu_s == two.cpu_s > 0
    assert not one.shards


def test_the_processes_have_one_clock(server: str) -> None:  # noqa: F811
    before = time.monotonic()
    result = replay(server, trace_of([0.0, 0.0, 0.4, 0.4]))
    after = time.monotonic()
    assert before < result.epoch <= after - result.wall_s
    assert all(r.sent is not None and r.sent >= r.arrival for r in result.records)


def test_sessions_stay_whole_and_their_turns_follow(server: str) -> None:  # noqa: F811
    one, two = replay(server, SESSIONS, processes=1), replay(server, SESSIONS)
    assert sorted((i, *rest) for i, _, *rest in told(two)) == sorted((i, *rest) for i, _, *rest in told(one))
    assert [shard.request_ids for shard in two.shards] == [{10, 11, 12, 30, 31, 32, 33}, {20, 21, 22}]
    ended = {r.request_id: end for r, end in zip(two.records, two.ended, strict=True)}
    for request, record in zip(two.trace, two.records, strict=True):
        assert request.arrival == record.arrival and record.sent is not None and record.sent >= record.arrival
        if request.after:
            assert record.arrival == max(ended[other] or 0.0 for other in request.after) + request.delay
    assert [r.arrival for r in two.trace] == sorted(r.arrival for r in two.trace)


def test_turns_after_a_failed_one_fail_in_their_process(server: str) -> None:  # noqa: F811
    result = replay(server, SESSIONS, model="http_500")
    errors = {r.request_id: r.error for r in result.records}
    assert len(errors) == len(TURNS)
    assert errors[22] == "not sent: request 21, which it waited for, failed"
    assert errors[33] == "not sent: request 31, which it waited for, failed"


@pytest.mark.parametrize(("concurrency", "quotas"), [(5, [3, 2]), (1, [1])])
def test_a_closed_loops_slots_are_shared_out(server: str, concurrency: int, quotas: list[int]) -> None:  # noqa: F811
    trace = trace_of([0.0] * 24)
    loop = ClosedLoop(concurrency=concurrency, ramp=0.01)
    shares = share_out(trace, loop.over(24), 2)
    assert [len(share.release.first) for share in shares if share.release] == quotas
    result = replay(server, trace, release=loop.over(24))
    assert [r.error for r in result.records] == [None] * 24
    assert {r.request_id for r in result.records} == {r.request_id for r in trace}
    assert most_in_flight(result) <= concurrency
    starts = sorted(due.time for share in shares if share.release for due in share.release.first)
    assert starts == pytest.approx([0.01 * slot / concurrency for slot in range(concurrency)])


def test_what_waits_for_each_other_is_one_group_without_a_session() -> None:
    free = [dataclasses.replace(r, session=None) for r in (turn(1), turn(2), turn(3), turn(4), turn(5, (1, 2)), turn(6, (4,)))]
    shares = share_out(Trace(name="t", requests=tuple(free)), None, 2)
    assert [[r.request_id for r in share.trace] for share in shares] == [[1, 2, 4, 5, 6], [3]]
    assert len(share_out(SESSIONS, None, 9)) == 3  # no process without a session
    with pytest.raises(ValueError, match=r"client\.processes: a Turns cannot"):
        share_out(SESSIONS, Turns(SESSIONS), 2)


def connected(parent: int) -> list[psutil.Process]:
    """The client processes of this parent that have connections."""
    children = psutil.Process(parent).children()
    return [p for p in children if "harness.replay.shards.worker" in p.cmdline() and p.net_connections("tcp")]


@pytest.fixture
def killer() -> Iterator[list[psutil.Process]]:
    """Kills the first client process that has been there for a while; the list has all that were seen."""
    seen: list[psutil.Process] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if len(workers := connected(os.getpid())) == 2:
                seen.extend(workers)
                os.kill(workers[0].pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    over.set()
    thread.join()


def test_a_killed_process_is_the_replays_failure_in_one_line(killer: list[psutil.Process]) -> None:
    with null_server.running("--ttft", "0.01", "--itl", "0.002") as running, pytest.raises(ShardError) as failed:
        replay(running.url, trace_of([0.0, 0.0, 60.0, 60.0]))
    assert str(failed.value) == ("client process 1 of 2 was ended by SIGKILL before its requests were answered; the replay is given up")
    assert len(killer) == 2 and not any(worker.is_running() for worker in killer)


def test_a_replay_that_is_killed_leaves_no_process_behind() -> None:
    script = (
        "import sys; from tests.harness.replay.shards.test_shards import replay, trace_of\nreplay(sys.argv[1], trace_of([0.0, 0.0, 60.0]))"
    )
    with null_server.running() as running, subprocess.Popen([sys.executable, "-c", script, running.url], cwd=ROOT) as parent:
        assert wait_until(lambda: len(connected(parent.pid)) == 2)
        workers = connected(parent.pid)
        parent.kill()
        assert wait_until(lambda: not any(worker.is_running() for worker in workers))


def test_a_process_says_why_it_cannot_begin() -> None:
    client = dataclasses.replace(TWO, api_key_env="NO_SUCH_KEY")
    with pytest.raises(ShardError, match=r"^client process \d of 2 failed: client\.api_key_env: there is no environment variable"):
        client.replay(endpoint("http://127.0.0.1:9"), trace_of([0.0, 0.1]), [[1] * 9] * 2)


def test_nobody_listens() -> None:
    result = replay("http://127.0.0.1:9", SESSIONS)
    assert len(result.records) == len(TURNS) and all(r.error is not None and r.sent is None for r in result.records)
    assert [r.request_id for r in result.trace] == [r.request_id for r in result.records]


@pytest.mark.parametrize("processes", [0, 1.5, True])
def test_a_number_of_processes_that_is_none_is_refused(processes: object) -> None:
    with pytest.raises(ValueError, match=r"client\.processes must be a number >= 1"):
        dataclasses.replace(CLIENT, processes=processes)  # type: ignore[arg-type]
