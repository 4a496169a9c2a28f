"""The client against a real server of null tokens: what holds for every replay, and what each fault becomes."""

import dataclasses
import gc
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.engine import Endpoint, EngineError
from harness.replay.client import Client, Replay
from results.project.folder import ROOT
from results.record import EngineLimits
from tests.patience import measured_again
from tests.stand_ins import null_server
from workloads.trace import Request, Trace

CLIENT = Client(
    request_timeout=120.0, drain_timeout=60.0, connect_timeout=10.0, connections=4, keep_alive=3.0, spin=0.00005, count_tokens=True
)
OUTPUT = 16


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with null_server.running("--ttft", "0.01", "--itl", "0.002") as running:
        yield running.url


def endpoint(url: str, model: str = "none") -> Endpoint:
    return Endpoint(url=url, served_model=model, system="null", version=None, limits=EngineLimits())


def trace_of(arrivals: list[float], *, inputs: int = 9, outputs: int = OUTPUT) -> Trace:
    requests = [Request(request_id=100 + i, arrival=a, input_tokens=inputs, output_tokens=outputs) for i, a in enumerate(arrivals)]
    return Trace(name="test", requests=tuple(requests))


def replay(url: str, trace: Trace, *, model: str = "none", client: Client = CLIENT) -> Replay:
    return client.replay(endpoint(url, model), trace, [[i] * r.input_tokens for i, r in enumerate(trace)])


def only_error(result: Replay) -> str:
    """The one error that all records have in common."""
    errors = {record.error for record in result.records}
    assert len(errors) == 1, errors
    return errors.pop() or ""


POISSON = [float(a) for a in np.cumsum(np.random.default_rng(5).exponential(0.01, 60))]


@pytest.mark.parametrize("model", ["none", "several", "role_first", "empty_text", "crlf", "fragments", "glued", "close", "no_done"])
def test_every_form_of_a_whole_stream_gives_whole_records(server: str, model: str) -> None:
    trace = trace_of(POISSON)
    result = replay(server, trace, model=model)
    assert [r.request_id for r in result.records] == [r.request_id for r in trace]
    for request, record in zip(trace, result.records, strict=True):
        assert record.error is None
        assert record.arrival == request.arrival
        assert record.sent is not None and record.first_token is not None and record.finished is not None
        assert record.finished >= record.first_token >= record.sent >= record.arrival
        assert (record.input_tokens, record.output_tokens) == (request.input_tokens, request.output_tokens)
        assert record.token_times is not None and len(record.token_times) == OUTPUT
        assert list(record.token_times) == sorted(record.token_times)
        assert (record.token_times[0], record.token_times[-1]) == (record.first_token, record.finished)
        assert record.first_token - record.sent >= 0.01  # the server's own time to the first token
        assert record.finished <= result.wall_s


def test_a_role_only_chunk_does_not_count_as_the_first_token(server: str) -> None:
    result = replay(server, trace_of([0.0, 0.05, 0.1]), model="role_first")
    for record in result.records:  # the server sends it after 10 ms, the first token 2 ms later
        assert record.first_token is not None and record.sent is not None
        assert record.first_token - record.sent >= 0.0115


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("error_in_200", "the server sent an error: the KV pool is too small"),
        ("http_500", 'HTTP 500: {"object":"error","message":"the engine is dead","code":500}'),
        ("cut", "connection closed by the server (after 8 content events of 16 tokens asked)"),
        ("cut_clean", "stream cut short after 8 content events of 16 tokens asked: no [DONE]"),
        ("reset", "connection lost: [Errno 104] Connection reset by peer (after 8 content events of 16 tokens asked)"),
        ("garbage", "malformed HTTP response: Expected HTTP/, RTSP/ or ICE/"),
        ("not_json", "an event is no completion chunk: {not json}"),
        ("plain_json", 'the answer is no event stream: {"choices":[{"text":"all of it"}]}'),
        ("wrong_input", "input_tokens: the trace asks for 9, the server reports 10"),
        ("wrong_output", "output_tokens: the trace asks for 16, the server reports 17"),
        ("short", "output_tokens: the trace asks for 16, the server reports 8"),
    ],
)
def test_each_fault_is_an_error_of_its_record(server: str, model: str, error: str) -> None:
    result = replay(server, trace_of([0.0, 0.01, 0.05, 0.05]), model=model)
    assert only_error(result) == error
    assert all(record.sent is not None and record.sent >= record.arrival for record in result.records)


def test_what_came_before_a_failure_is_kept(server: str) -> None:
    (record,) = replay(server, trace_of([0.0]), model="cut").records
    assert record.error is not None and record.first_token is not None and record.finished is not None
    assert record.token_times is not None and len(record.token_times) == OUTPUT // 2


@pytest.mark.parametrize(("model", "events"), [("hang", " (after 8 content events of 16 tokens asked)"), ("silent", "")])
def test_a_request_that_hangs_times_out_and_the_others_do_not(server: str, model: str, events: str) -> None:
    client = dataclasses.replace(CLIENT, request_timeout=2.0)
    result = replay(server, trace_of([0.0, 0.3]), model=model, client=client)
    assert only_error(result) == "timed out after 2 s (client.request_timeout)" + events
    assert result.wall_s < 30


def test_the_drain_limit_ends_a_replay_of_a_server_that_hangs(server: str) -> None:
    client = dataclasses.replace(CLIENT, request_timeout=60.0, drain_timeout=0.5)
    result = replay(server, trace_of([0.0, 0.3]), model="silent", client=client)
    assert only_error(result) == "not finished 0.5 s after the last arrival (client.drain_timeout)"
    assert 0.8 <= result.wall_s < 30


def test_a_server_that_dies_ends_the_replay_soon_with_errors() -> None:
    with null_server.running("--ttft", "0.01", "--itl", "0.002") as running:
        started = time.monotonic()
        result = replay(running.url, trace_of([0.0, 0.001, 0.5, 300.0]), model="die")
    assert time.monotonic() - started < 30
    assert [record.request_id for record in result.records] == [100, 101, 102, 103]
    assert all(record.error is not None for record in result.records)
    assert result.records[-1].sent is None
    assert (result.records[-1].error or "").startswith("not sent: could not connect to 127.0.0.1:")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = replay(f"http://127.0.0.1:{port}", trace_of([0.0, 300.0]))
    assert only_error(result) == f"not sent: could not connect to 127.0.0.1:{port}: Connection refused"
    assert all(record.sent is None for record in result.records)


@measured_again
def test_a_server_that_accepts_late_delays_the_first_token_not_the_sending() -> None:
    with null_server.running("--ttft", "0.01", "--itl", "0.002", "--slow-accept", "2.5") as running:
        (record,) = replay(running.url, trace_of([0.0])).records
    assert record.error is None and record.sent is not None and record.first_token is not None
    assert record.first_token - record.sent > 0.1
    assert record.sent < 1


@measured_again
def test_open_loop_a_silent_server_does_not_hold_back_later_requests(server: str) -> None:
    client = dataclasses.replace(CLIENT, request_timeout=60.0, drain_timeout=1.0, connections=1)
    result = replay(server, trace_of([i * 0.01 for i in range(50)]), model="silent", client=client)
    lags = [record.sent - record.arrival for record in result.records if record.sent is not None]
    assert len(lags) == 50
    assert min(lags) >= 0
    assert float(np.median(lags)) < 0.5


def test_all_at_once(server: str) -> None:
    result = replay(server, trace_of([0.0] * 200))
    assert [record.error for record in result.records] == [None] * 200


@pytest.mark.parametrize(("ready", "keep_alive", "connections"), [(1, 30.0, 1), (1, 0.01, 4), (0, 30.0, 4)])
@measured_again
def test_a_connection_is_used_again_until_it_was_idle_for_too_long(tmp_path: Path, ready: int, keep_alive: float, connections: int) -> None:
    """Or never, where none is kept."""
    client = dataclasses.replace(CLIENT, connections=ready, keep_alive=keep_alive)
    with null_server.running("--ttft", "0.01", "--itl", "0.002", "--log", str(tmp_path / "log")) as running:
        result = replay(running.url, trace_of([0.0, 0.5, 1.0, 1.5]), client=client)
    assert [record.error for record in result.records] == [None] * 4
    used = [json.loads(line)[3] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(used) == 4
    assert len(set(used)) == connections


def test_prompts_longer_than_a_socket_buffer_arrive_whole(server: str) -> None:
    trace = trace_of([0.0, 0.0], inputs=3_000_000)  # 18 MB each
    result = CLIENT.replay(endpoint(server), trace, [[31999] * 3_000_000] * 2)
    assert [(record.error, record.input_tokens) for record in result.records] == [(None, 3_000_000)] * 2


def test_no_socket_stays_open(server: str) -> None:
    port = int(server.rpartition(":")[2])
    replay(server, trace_of([0.0] * 10))
    assert [c for c in psutil.Process().net_connections() if c.raddr and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED] == []


def test_cached_tokens_are_recorded_where_reported_and_else_unknown(server: str) -> None:
    assert [record.cached_tokens for record in replay(server, trace_of([0.0]), model="cached").records] == [4]
    assert [record.cached_tokens for record in replay(server, trace_of([0.0])).records] == [None]


def test_without_usage_the_counts_are_unknown_and_no_error(server: str) -> None:
    client = dataclasses.replace(CLIENT, connections=1, count_tokens=False)
    (record,) = replay(server, trace_of([0.0]), model="no_usage", client=client).records
    assert (record.error, record.input_tokens, record.output_tokens, record.token_times) == (None, None, None, None)
    assert record.first_token is not None and record.finished is not None


def test_a_path_prefix_and_a_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = dataclasses.replace(CLIENT, connections=1, api_key_env="NULL_SERVER_KEY")
    monkeypatch.delenv("NULL_SERVER_KEY", raising=False)
    with pytest.raises(EngineError, match="NULL_SERVER_KEY; set it"):
        replay(server, trace_of([0.0]), client=client)
    monkeypatch.setenv("NULL_SERVER_KEY", "secret")
    assert replay(server + "/a/prefix/", trace_of([0.0]), model="needs_key", client=client).records[0].error is None
    assert "secret" not in repr(client)
    (record,) = replay(server, trace_of([0.0]), model="needs_key").records
    assert record.error == 'HTTP 401: {"error":"no API key"}'


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", ""])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(EngineError, match="no server's base URL; give one like"):
        replay(url, trace_of([0.0]))


def test_prompts_must_fit_the_trace(server: str) -> None:
    with pytest.raises(ValueError, match="request 100: a prompt of 3 tokens for input_tokens 9"):
        CLIENT.replay(endpoint(server), trace_of([0.0]), [[1, 2, 3]])
    with pytest.raises(ValueError, match="zip"):
        CLIENT.replay(endpoint(server), trace_of([0.0]), [])


@measured_again
def test_progress_is_told_and_ends_at_the_total(server: str) -> None:
    calls: list[tuple[float, float]] = []
    trace = trace_of([0.0, 0.4, 0.8, 1.2])
    CLIENT.replay(endpoint(server), trace, [[1] * 9] * 4, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (4, 4)
    assert len(calls) >= 2
    assert calls == sorted(calls)


def test_a_defect_in_progress_is_not_swallowed_and_the_collector_is_restored(server: str) -> None:
    def broken(done: float, total: float) -> None:
        raise ZeroDivisionError

    interval = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError):
        CLIENT.replay(endpoint(server), trace_of([0.0, 300.0]), [[1] * 9] * 2, progress=broken)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert sys.getswitchinterval() == interval


INTERRUPTED = """
import gc, sys
from tests.harness.replay.test_client import CLIENT, endpoint, trace_of
try:
    CLIENT.replay(endpoint(sys.argv[1]), trace_of([0.0, 300.0]), [[1] * 9] * 2, progress=lambda done, total: print(done, flush=True))
except KeyboardInterrupt:
    print("interrupted", gc.isenabled(), flush=True)
"""


def test_ctrl_c_ends_it_with_keyboard_interrupt_and_nothing_on_stderr(server: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, server]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        while process.stdout.readline().strip() != "1":  # until the first request is done; the second is far away
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "interrupted True" in process.stdout.read()
        assert process.stderr.read() == ""
        assert process.wait(30) == 0


AT_A_BAD_MOMENT = """
import gc, os, signal, sys
import uvloop
from tests.harness.replay.test_client import CLIENT, endpoint, trace_of

loops = []

class Loop(uvloop.Loop):
    def __init__(self):
        super().__init__()
        loops.append(self)
        if sys.argv[2] == "made":
            os.kill(os.getpid(), signal.SIGINT)
    def close(self):
        if sys.argv[2] == "closed":
            os.kill(os.getpid(), signal.SIGINT)
        super().close()

uvloop.new_event_loop = Loop
try:
    CLIENT.replay(endpoint(sys.argv[1]), trace_of([0.0] * 20), [[1] * 9] * 20)
except KeyboardInterrupt:
    print("interrupted", loops[0].is_closed(), gc.isenabled(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize("moment", ["made", "closed"])
def test_ctrl_c_while_the_loop_is_made_or_closed_leaves_no_loop_open(server: str, moment: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", AT_A_BAD_MOMENT, server, moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted True True True\n", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_timeout": 0}, "client.request_timeout must be > 0 s, got 0"),
        ({"connections": -1}, "client.connections must be >= 0, got -1"),
        ({"spin": 1.0}, "client.spin must be between 0 and 0.01 s, got 1.0"),
    ],
)
def test_bad_settings_are_named(change: dict[str, float], message: str) -> None:
    settings = {"request_timeout": 1, "drain_timeout": 1, "connect_timeout": 1, "connections": 1, "keep_alive": 1, "spin": 0} | change
    with pytest.raises(ValueError, match=message):
        Client(**settings, count_tokens=True)  # type: ignore[arg-type]
