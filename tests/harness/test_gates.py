"""Each gate: a replay just inside its limit is valid, one just outside is INVALID for that reason alone."""

import dataclasses
from collections.abc import Callable

import pytest

from harness.gates import Gates, invalid_reason, may_pass
from harness.replay.client import Replay
from harness.replay.shards.merge import Shard
from results.record import RequestRecord
from workloads.trace import Request, Trace

GATES = Gates(max_lag_p99=0.005, max_rate_error=0.01, max_error_share=0.0, max_client_cpu=0.8, require_usage=True, max_core_wait=0.05)
TRACE = Trace(
    name="test", requests=tuple(Request(request_id=i, arrival=i / 10, input_tokens=8, output_tokens=4) for i in range(101))
)  # 10 s at 10 requests/s


def good(request: Request, **changes: object) -> RequestRecord:
    record = RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival + 0.0001,
        first_token=request.arrival + 0.1,
        finished=request.arrival + 0.4,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def replay_of(trace: Trace, change: Callable[[Request], dict[str, object]] = lambda _: {}, *, cpu_s: float = 1.0) -> Replay:
    return Replay(
        trace=trace,
        records=tuple(good(r, **change(r)) for r in trace),
        ended=tuple(r.arrival + 0.4 for r in trace),
        started_at="2026-01-01T00:00:00+00:00",
        epoch=0.0,
        wall_s=10.4,
        cpu_s=cpu_s,
    )


def check(
    replay: Replay,
    *,
    gates: Gates = GATES,
    trace: Trace = TRACE,
    window: tuple[float, float] = (0.0, 10.0),
    cold: bool = True,
    core_wait: float | None = None,
) -> str | None:
    return invalid_reason(gates.check(trace, replay, window=window, cpus=1, expect_cold=cold, core_wait=core_wait))


def test_a_good_replay_is_valid() -> None:
    assert check(replay_of(TRACE)) is None


def test_dispatch_lag() -> None:
    assert check(replay_of(TRACE, lambda r: {"sent": r.arrival + 0.0049})) is None
    assert check(replay_of(TRACE, lambda r: {"sent": r.arrival + (0.02 if r.request_id == 50 else 0.0)})) is None  # one in 101
    reason = check(replay_of(TRACE, lambda r: {"sent": r.arrival + 0.0062}))
    assert reason == "dispatch lag p99 is 6.2 ms (limit 5 ms): the client was too slow"


def test_a_request_sent_early() -> None:
    reason = check(replay_of(TRACE, lambda r: {"sent": r.arrival - (0.0004 if r.request_id == 7 else 0)}))
    assert reason == "1 requests were sent before their arrival, by up to 0.400 ms (limit 0)"


def test_a_core_that_others_had() -> None:
    assert check(replay_of(TRACE), core_wait=0.0499) is None
    reason = check(replay_of(TRACE), core_wait=0.0612)
    assert reason == "other processes had the engine's core for 6.1% of the time while it needed it (limit 5%)"


def test_achieved_rate() -> None:
    patient = dataclasses.replace(GATES, max_lag_p99=0.02)
    assert check(replay_of(TRACE, lambda r: {"sent": r.arrival * 1.009}), gates=dataclasses.replace(GATES, max_lag_p99=0.1)) is None
    reason = check(replay_of(TRACE, lambda r: {"sent": r.arrival * 1.05}), gates=patient)
    assert reason is not None
    lag, rate = reason.split("; ")
    assert lag == "dispatch lag p99 is 495.0 ms (limit 20 ms): the client was too slow"
    assert rate == "achieved rate is 9.524 requests/s for 10.000 offered, off by -4.8% (limit 1.0%)"


def test_a_short_run_may_lag_at_its_ends_by_what_the_lag_gate_allows() -> None:
    short = Trace(name="short", requests=tuple(dataclasses.replace(r, arrival=r.arrival / 100) for r in TRACE.requests[:11]))  # 10 ms
    late_end = replay_of(short, lambda r: {"sent": r.arrival + (0.004 if r.request_id == 10 else 0.0)})
    assert check(late_end, trace=short) is None  # 40 % of the span, but within the lag that is allowed
    at_once = Trace(name="burst", requests=tuple(dataclasses.replace(r, arrival=0.0) for r in TRACE.requests))
    assert check(replay_of(at_once, lambda r: {"sent": r.request_id * 1e-5}), trace=at_once) is None


def test_errors() -> None:
    def cut(r: Request) -> dict[str, object]:
        return {"error": "stream cut short", "output_tokens": 2} if r.request_id < 2 else {}

    assert check(replay_of(TRACE, cut)) == "2 of 101 requests failed (limit 0.0%), most often with: stream cut short"
    assert check(replay_of(TRACE, cut), gates=dataclasses.replace(GATES, max_error_share=0.02)) is None
    assert check(replay_of(TRACE, cut), window=(0.2, 10.0)) is None  # they arrived before the window


def test_token_counts_off_from_the_trace() -> None:
    reason = check(replay_of(TRACE, lambda r: {"output_tokens": 3} if r.request_id in (5, 6) else {}))
    assert reason == "output_tokens off from the trace in 2 of 101 requests (limit 0), e.g. request 5: 3 instead of 4"
    reason = check(replay_of(TRACE, lambda r: {"input_tokens": 9} if r.request_id == 5 else {}))
    assert reason == "input_tokens off from the trace in 1 of 101 requests (limit 0), e.g. request 5: 9 instead of 8"


def test_a_server_that_reports_no_counts() -> None:
    silent = replay_of(TRACE, lambda r: {"input_tokens": None, "output_tokens": None})
    assert check(silent) == "the server reported no token counts for 101 of 101 requests (limit 0), so their lengths cannot be checked"
    assert check(silent, gates=dataclasses.replace(GATES, require_usage=False)) is None


def test_client_cpu() -> None:
    assert check(replay_of(TRACE, cpu_s=8.0)) is None
    reason = check(replay_of(TRACE, cpu_s=9.5))
    assert reason == "the client used 91% of its 1 CPU (limit 80%): it may have been the bottleneck"
    assert GATES.check(TRACE, replay_of(TRACE, cpu_s=9.5), window=(0, 10), cpus=2, expect_cold=True) == ()


def test_each_client_process_keeps_the_gates_by_itself() -> None:
    """Half of the requests late, or one process short of CPU, is hidden in the whole's figures; its process is named."""
    ids = [frozenset(range(0, 101, 2)), frozenset(range(1, 101, 2))]

    def shards(*cpu_s: float, cpus: float = 1.0) -> tuple[Shard, ...]:
        return tuple(Shard(request_ids=i, cpu=0, cpus=cpus, wall_s=10.4, cpu_s=s) for i, s in zip(ids, cpu_s, strict=True))

    def late(request: Request) -> dict[str, object]:  # one in a hundred, but two in a hundred of the second process's
        return {"sent": request.arrival + (0.02 if request.request_id == 51 else 0.0)}

    assert check(replay_of(TRACE, late)) is None
    assert check(dataclasses.replace(replay_of(TRACE), shards=shards(4.0, 4.0))) is None
    reason = check(dataclasses.replace(replay_of(TRACE, late), shards=shards(1.0, 1.0)))
    assert reason == "client process 2 of 2: dispatch lag p99 is 10.2 ms (limit 5 ms): the client was too slow"
    reason = check(dataclasses.replace(replay_of(TRACE), shards=shards(9.5, 1.0)))
    assert reason == "client process 1 of 2: the client used 91% of its 1 CPU (limit 80%): it may have been the bottleneck"
    reason = check(dataclasses.replace(replay_of(TRACE), shards=shards(1.0, 5.0, cpus=0.5)))
    assert reason == "client process 2 of 2: the client used 96% of its 0.5 CPU (limit 80%): it may have been the bottleneck"


def test_a_warm_cache_matters_only_to_a_cold_study() -> None:
    warm = replay_of(TRACE, lambda r: {"cached_tokens": 6 if r.request_id == 3 else 0})
    reason = check(warm)
    assert reason is not None
    assert reason.startswith("the prefix cache was warm, but the study says cold: 6 cached tokens in 1 requests")
    assert check(warm, cold=False) is None


def test_what_the_server_puts_around_every_prompt_may_be_cached_and_no_more() -> None:
    for cached, valid in ((3, True), (4, False)):
        replay = replay_of(TRACE, lambda _, n=cached: {"cached_tokens": n})  # type: ignore[misc]
        failed = GATES.check(TRACE, replay, window=(0.0, 10.0), cpus=1, expect_cold=True, shared_by_all=3)
        assert (failed == ()) is valid


def test_prefixes_that_the_trace_shares_may_be_cached() -> None:
    blocks = [(1, 2), (1, 2), (1, 3), (2, 2)]
    trace = Trace(
        name="shared",
        block_size=4,
        requests=tuple(Request(request_id=i, arrival=i / 10, input_tokens=8, output_tokens=4, blocks=b) for i, b in enumerate(blocks)),
    )
    window = (0.0, 1.0)
    assert check(replay_of(trace, lambda r: {"cached_tokens": [0, 8, 4, 0][r.request_id]}), trace=trace, window=window) is None
    for request_id, cached in ((0, 1), (2, 5), (3, 4)):
        one = replay_of(trace, lambda r, i=request_id, n=cached: {"cached_tokens": n if r.request_id == i else 0})  # type: ignore[misc]
        assert (check(one, trace=trace, window=window) or "").startswith("the prefix cache was warm")


def test_all_failed_gates_are_named() -> None:
    reason = check(replay_of(TRACE, lambda r: {"sent": r.arrival + 0.1, "error": "timed out", "cached_tokens": 1}, cpu_s=10.0))
    assert reason is not None
    parts = reason.split("; ")
    for part, start in zip(parts, ("101 of 101 requests failed", "dispatch lag", "the client used", "the prefix cache"), strict=True):
        assert part.startswith(start)


def late(r: Request) -> dict[str, object]:
    return {"sent": r.arrival + 0.1}


@pytest.mark.parametrize(
    ("change", "core_wait", "cpu_s", "passes"),
    [
        (lambda _: {}, None, 1.0, False),  # valid: nothing has to pass
        (late, None, 1.0, True),
        (lambda r: {"sent": r.arrival * 1.05}, None, 1.0, True),
        (lambda _: {}, 0.5, 1.0, True),
        (lambda _: {}, None, 10.0, True),
        (late, 0.5, 10.0, True),
        (lambda _: {"error": "timed out"}, None, 1.0, False),
        (lambda _: {"output_tokens": 3}, None, 1.0, False),
        (lambda _: {"output_tokens": None}, None, 1.0, False),
        (lambda _: {"cached_tokens": 1}, None, 1.0, False),
        (lambda r: {"sent": r.arrival - 0.1}, None, 1.0, False),
        (lambda r: {**late(r), "error": "timed out"}, 0.5, 10.0, False),  # one reason that stays is enough
    ],
)
def test_what_the_machine_did_meanwhile_may_pass_and_what_the_engine_did_does_not(
    change: Callable[[Request], dict[str, object]], core_wait: float | None, cpu_s: float, passes: bool
) -> None:
    failed = GATES.check(TRACE, replay_of(TRACE, change, cpu_s=cpu_s), window=(0, 10), cpus=1, expect_cold=True, core_wait=core_wait)
    assert may_pass(failed) is passes


def test_nothing_sent_is_said_by_the_errors_alone() -> None:
    replay = replay_of(TRACE, lambda _: {"sent": None, "input_tokens": None, "output_tokens": None, "error": "not sent"})
    assert check(replay) == "101 of 101 requests failed (limit 0.0%), most often with: not sent"


def test_an_empty_window() -> None:
    assert check(replay_of(TRACE), window=(11.0, 12.0)) == "no request arrives between 11 and 12 s"


@pytest.mark.parametrize(
    "change", [{"max_lag_p99": 0.0}, {"max_rate_error": -1.0}, {"max_error_share": 1.0}, {"max_client_cpu": 0.0}, {"retries": -1}]
)
def test_bad_limits_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"gates.{next(iter(change))} must be"):
        dataclasses.replace(GATES, **change)  # type: ignore[arg-type]
