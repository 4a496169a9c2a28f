"""Every metric of metrics.sql: by hand on six requests, and against an independent computation on random runs."""

import dataclasses
import math
from typing import Any

import duckdb
import numpy as np
import pytest

from results.record import SLO, RequestRecord, Run
from tests.results.conftest import Build
from tests.results.hand import change_record, hand_run
from tests.runs import make_run, make_simulated

LATENCIES = ("ttft", "ttft_sent", "ttfo", "tpot", "itl", "e2e", "queue", "dispatch_lag")
STATS = ("mean", "p50", "p90", "p95", "p99")
RATES = (
    "output_throughput",
    "total_throughput",
    "request_rate",
    "offered_rate",
    "goodput",
    "slo_attainment",
    "error_rate",
    "cached_fraction",
    "fluidity",
    "duration",
)


def metrics(connection: duckdb.DuckDBPyConnection, run_id: str = "hand") -> dict[tuple[str, str | None], Any]:
    rows = connection.execute("SELECT metric, stat, value FROM run_metrics WHERE run_id = ?", [run_id]).fetchall()
    values = {(metric, stat): value for metric, stat, value in rows}
    assert len(values) == len(rows)
    assert set(values) == {(m, s) for m in LATENCIES for s in STATS} | {(m, None) for m in RATES}
    return values


def test_latencies_by_hand(built: Build) -> None:
    values = metrics(built(hand_run()))
    expected = {  # over requests 1, 2, 3: mean and p50; p90 of three values lies at rank 1.8
        "ttft": (0.5, 0.5, 0.5 + 0.8 * 0.25),
        "ttft_sent": ((0.375 + 0.75 + 0.25) / 3, 0.375, 0.375 + 0.8 * 0.375),
        "e2e": (1.0, 1.0, 1.0 + 0.8 * 0.75),
        "queue": (0.5 / 3, 0.25, 0.25),
        "dispatch_lag": (0.125 / 3, 0.0, 0.8 * 0.125),
        "tpot": (0.1875, 0.1875, 0.125 + 0.9 * 0.125),  # 0.125, 0.25; none for one token
        "itl": (0.1875, 0.125, 0.5),  # 4 x 0.125, 2 x 0, 2 x 0.5
    }
    for metric, (mean, p50, p90) in expected.items():
        assert values[metric, "mean"] == pytest.approx(mean, rel=1e-12), metric
        assert values[metric, "p50"] == pytest.approx(p50, rel=1e-12), metric
        assert values[metric, "p90"] == pytest.approx(p90, rel=1e-12), metric
    assert values["ttft", "p95"] == pytest.approx(0.725)
    assert values["ttft", "p99"] == pytest.approx(0.745)


def test_rates_by_hand(built: Build) -> None:
    values = metrics(built(hand_run()))
    assert values["output_throughput", None] == (5 + 5 + 2 + 1) / 2
    assert values["total_throughput", None] == (20 + 30 + 7 + 13) / 2
    assert values["request_rate", None] == 3 / 2  # 0, 1 and 3 finish inside
    assert values["offered_rate", None] == 4 / 2
    assert values["goodput", None] == 2 / 2  # 1 and 3
    assert values["slo_attainment", None] == 2 / 4  # the failure is one of the four
    assert values["error_rate", None] == 1 / 4
    assert values["cached_fraction", None] == 5 / 57
    assert values["duration", None] == 4.0 - 0.5
    # request 1 meets 5; 2 misses 1 + 0.25 // 0.1875 = 2, then meets 1, misses (0.5 - 0.1875) // 0.1875 = 1, meets 1, misses 1; 3 meets 1
    assert values["fluidity", None] == pytest.approx(1 - 4 / 12)


def test_request_metrics_by_hand(built: Build) -> None:
    rows = built(hand_run()).execute("SELECT * EXCLUDE run_id FROM request_metrics ORDER BY request_id").fetchall()
    columns = ["request_id", "in_window", "failed", "ttft", "ttft_sent", "ttfo", "tpot", "e2e", "queue", "dispatch_lag", "good"]
    by_id = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert [by_id[i]["in_window"] for i in range(6)] == [False, True, True, True, True, False]
    assert [by_id[i]["failed"] for i in range(6)] == [False, False, False, False, True, False]
    assert [by_id[i]["good"] for i in range(6)] == [False, True, False, True, False, False]
    assert by_id[3]["tpot"] is None
    assert [by_id[4][name] for name in ("ttft", "ttft_sent", "tpot", "e2e", "queue")] == [None] * 5  # a failure has no latency
    assert by_id[2] == {
        "request_id": 2,
        "in_window": True,
        "failed": False,
        "ttft": 0.75,
        "ttft_sent": 0.75,
        "ttfo": None,
        "tpot": 0.25,
        "e2e": 1.75,
        "queue": 0.25,
        "dispatch_lag": 0.0,
        "good": False,
    }


def test_the_first_token_is_of_any_kind_and_the_first_output_token_of_the_answer(built: Build) -> None:
    run = hand_run()
    for number, moment in ((1, 1.75), (2, 3.25), (4, 3.0)):  # the last one failed; request 3 does not tell
        run = change_record(run, number, first_output_token=moment)
    values, before = metrics(built(run)), metrics(built(hand_run()))
    assert values["ttfo", "mean"] == (0.75 + 1.25) / 2
    assert {key: value for key, value in values.items() if key[0] != "ttfo"} == {k: v for k, v in before.items() if k[0] != "ttfo"}
    assert before["ttfo", "mean"] is None


def test_a_request_that_never_finished_failed(built: Build) -> None:
    values = metrics(built(change_record(hand_run(), 1, finished=None)))
    assert values["error_rate", None] == 2 / 4
    assert values["goodput", None] == 1 / 2
    assert values["ttft", "mean"] == 0.5
    assert values["output_throughput", None] == (5 + 2 + 1) / 2


@pytest.mark.parametrize(("slo", "good"), [(SLO(), 3), (SLO(e2e=1.0), 2), (SLO(ttft=0.25), 1), (SLO(tpot=0.125), 2), (SLO(tpot=0.25), 3)])
def test_no_limit_is_no_limit(built: Build, slo: SLO, good: int) -> None:
    assert metrics(built(hand_run(slo=slo)))["goodput", None] == good / 2


def test_unknown_is_null_and_never_zero(built: Build) -> None:
    run = hand_run()
    no_usage = metrics(built(change_record(run, 2, output_tokens=None, input_tokens=None)))
    assert no_usage["output_throughput", None] is None
    assert no_usage["total_throughput", None] is None
    assert no_usage["goodput", None] == 1.0  # its TTFT already decides: not good
    assert no_usage["cached_fraction", None] is None
    assert no_usage["tpot", "p50"] == 0.125
    undecided = metrics(built(change_record(run, 1, output_tokens=None)))
    assert undecided["goodput", None] is None
    assert undecided["slo_attainment", None] is None
    assert undecided["error_rate", None] == 1 / 4
    silent = metrics(built(change_record(run, 1, token_times=None)))
    assert silent["fluidity", None] is None
    assert silent["itl", "mean"] == 1.0 / 4
    assert metrics(built(change_record(run, 3, cached_tokens=None)))["cached_fraction", None] is None
    assert metrics(built(hand_run(slo=SLO(ttft=0.5))))["fluidity", None] is None
    assert metrics(built(change_record(run, 3, scheduled=None)))["queue", "mean"] == 0.25


def test_all_failed_is_not_a_latency_of_zero(built: Build) -> None:
    values = metrics(built(make_run("dead", failures=range(40))), "dead")
    assert all(values[m, s] is None for m in LATENCIES for s in STATS)
    assert values["output_throughput", None] == 0
    assert values["goodput", None] == 0
    assert values["slo_attainment", None] == 0
    assert values["error_rate", None] == 1
    assert values["duration", None] is None
    assert values["cached_fraction", None] is None


def test_a_window_of_no_length_has_no_rates(built: Build) -> None:
    values = metrics(built(hand_run(window=(2.0, 2.0))))
    for rate in ("output_throughput", "total_throughput", "request_rate", "offered_rate", "goodput"):
        assert values[rate, None] is None
    assert values["slo_attainment", None] == 0.0
    assert values["ttft", "p50"] == 0.75
    empty = metrics(built(hand_run(window=(2.25, 2.375))))
    assert empty["slo_attainment", None] is None
    assert empty["error_rate", None] is None
    assert empty["ttft", "p50"] is None
    assert empty["offered_rate", None] == 0


def test_without_a_window_the_whole_run_counts(built: Build) -> None:
    values = metrics(built(hand_run(window=None)))  # from 0.5 to 4.0
    assert values["output_throughput", None] == 20 / 3.5
    assert values["offered_rate", None] == 6 / 3.5
    assert values["request_rate", None] == 5 / 3.5
    assert values["error_rate", None] == 1 / 6


def test_throughput_does_not_depend_on_token_times(built: Build) -> None:
    shown, hidden = make_run("shown"), make_run("hidden", token_times=False)
    connection = built(shown, hidden)
    ours, theirs = metrics(connection, "shown"), metrics(connection, "hidden")
    assert ours["output_throughput", None] == theirs["output_throughput", None]
    assert theirs["itl", "mean"] is None


def test_failures_change_no_latency_of_the_others(built: Build) -> None:
    """A failure that carries times is worth as much as one without: nothing."""
    run = make_run("clean", failures=[10, 20])
    slow = {"first_token": 1e6, "finished": 2e6, "output_tokens": 10**6, "input_tokens": 10**6, "token_times": (1e6, 2e6)}
    loud = change_record(change_record(dataclasses.replace(run, run_id="loud"), 10, **slow), 20, **slow)
    connection = built(run, loud)
    loud_values = metrics(connection, "loud")
    for key, value in metrics(connection, "clean").items():
        assert loud_values[key] == (None if value is None else pytest.approx(value, rel=1e-12)), key


def random_run(seed: int) -> Run:
    """A run with failures, requests of one token, late clients, unsorted ends and a window that cuts through requests."""
    rng = np.random.default_rng(seed)
    run = make_run(f"random-{seed}", num_requests=int(rng.integers(1, 120)), seed=seed, rate=8.0, telemetry=False)
    records = list(run.records)
    for i in rng.choice(len(records), size=len(records) // 6, replace=False):
        lost = records[i]
        records[i] = dataclasses.replace(lost, error="boom", finished=None if i % 2 else lost.finished)
    limits = [None if rng.random() < 0.3 else float(x) for x in (rng.uniform(0.03, 0.3), rng.uniform(0.015, 0.025), rng.uniform(0.2, 1))]
    low, high = sorted(rng.uniform(0, run.trace.duration + 1, 2).tolist())
    return dataclasses.replace(
        run, records=tuple(records), slo=SLO(ttft=limits[0], tpot=limits[1], e2e=limits[2]), window=(float(low), float(high))
    )


def python_metrics(run: Run) -> dict[tuple[str, str | None], Any]:
    """The same definitions, written a second time, token by token."""
    assert run.window is not None
    low, high = run.window
    length = high - low
    records: Any = run.records
    ok = [r for r in records if r.error is None and r.finished is not None]
    arrived = [r for r in records if low <= r.arrival <= high]
    done = [r for r in ok if low <= r.arrival <= high]
    samples: dict[str, list[float]] = {
        "ttft": [r.first_token - r.arrival for r in done],
        "ttft_sent": [r.first_token - r.sent for r in done],
        "ttfo": [r.first_output_token - r.arrival for r in done if r.first_output_token is not None],
        "tpot": [(r.finished - r.first_token) / (r.output_tokens - 1) for r in done if r.output_tokens > 1],
        "itl": [b - a for r in done for a, b in zip(r.token_times, r.token_times[1:], strict=False)],
        "e2e": [r.finished - r.arrival for r in done],
        "queue": [r.scheduled - r.arrival for r in done],
        "dispatch_lag": [r.sent - r.arrival for r in done],
    }
    values: dict[tuple[str, str | None], Any] = {}
    for metric, sample in samples.items():
        values[metric, "mean"] = np.mean(sample) if sample else None
        for stat in STATS[1:]:
            values[metric, stat] = np.percentile(sample, float(stat[1:])) if sample else None
    moments = [m for r in ok for m in np.linspace(r.first_token, r.finished, r.output_tokens)]
    produced = sum(low <= m <= high for m in moments)
    prompts = sum(r.input_tokens for r in ok if low <= r.first_token <= high)
    good = [r for r in done if is_good(r, run.slo)]
    values["output_throughput", None] = produced / length
    values["total_throughput", None] = (produced + prompts) / length
    values["request_rate", None] = sum(low <= r.finished <= high for r in ok) / length
    values["offered_rate", None] = len(arrived) / length
    values["goodput", None] = len(good) / length
    values["slo_attainment", None] = len(good) / len(arrived) if arrived else None
    values["error_rate", None] = (len(arrived) - len(done)) / len(arrived) if arrived else None
    values["cached_fraction", None] = sum(r.cached_tokens for r in done) / sum(r.input_tokens for r in done) if done else None
    values["duration", None] = max(r.finished for r in ok) - min(r.arrival for r in run.records) if ok else None
    values["fluidity", None] = None
    if run.slo.ttft is not None and run.slo.tpot is not None and done:
        counts = [fluidity(r, run.slo.ttft, run.slo.tpot) for r in done]
        values["fluidity", None] = 1 - sum(m for m, _ in counts) / sum(d for _, d in counts)
    return values


def is_good(r: Any, slo: SLO) -> bool:
    ttft, e2e = r.first_token - r.arrival, r.finished - r.arrival
    tpot = 0.0 if r.output_tokens == 1 else (r.finished - r.first_token) / (r.output_tokens - 1)
    return ttft <= (slo.ttft or math.inf) and tpot <= (slo.tpot or math.inf) and e2e <= (slo.e2e or math.inf)


def fluidity(r: RequestRecord, ttft: float, tpot: float) -> tuple[int, int]:
    """(missed, all) deadlines by Etalon's rule, one token after the other."""
    assert r.token_times is not None
    assert r.first_token is not None
    missed, met, slack = 0, 0, 0.0
    gaps = [r.first_token - r.arrival, *np.diff(r.token_times).tolist()]
    for index, gap in enumerate(gaps):
        deadline = tpot if index else ttft
        if gap <= deadline + slack:
            slack += deadline - gap
            met += 1
        else:
            missed += int((gap - slack) // tpot) if index else 1 + int((gap - ttft) // tpot)
            slack = 0.0
    return missed, missed + met


@pytest.mark.parametrize("seed", range(12))
def test_against_an_independent_computation(built: Build, seed: int) -> None:
    run = random_run(seed)
    expected, values = python_metrics(run), metrics(built(run, make_simulated(run)), run.run_id)
    for key, value in expected.items():
        assert (values[key] is None) == (value is None), key
        if value is not None:
            assert values[key] == pytest.approx(value, rel=1e-9, abs=1e-12), key


def test_fluidity_of_stumbling_requests(built: Build) -> None:
    """Long pauses and tight limits, so that most deadlines are missed and slack matters."""
    rng = np.random.default_rng(3)
    run = make_run("stumbling", slo=SLO(ttft=0.05, tpot=0.01), telemetry=False)
    records = []
    for r in run.records:
        assert r.first_token is not None
        assert r.token_times is not None
        gaps = rng.choice([0.0, 0.003, 0.01, 0.08], len(r.token_times) - 1)
        times = (r.first_token, *(r.first_token + np.cumsum(gaps)).tolist())
        records.append(dataclasses.replace(r, token_times=times, finished=times[-1]))
    run = dataclasses.replace(run, records=tuple(records))
    rows = built(run).execute("SELECT request_id, missed, deadlines FROM request_fluidity ORDER BY request_id").fetchall()
    assert rows == [(r.request_id, *fluidity(r, 0.05, 0.01)) for r in run.records]
    assert any(missed > 3 for _, missed, _ in rows)


def test_tokens_inside_counts_each_token_once(built: Build) -> None:
    """The closed form against counting; a window that ends exactly with the request holds all of its tokens, whatever the rounding."""
    rng = np.random.default_rng(1)
    connection = built(hand_run())
    first, span = rng.uniform(0, 1000, 20000), rng.uniform(1e-3, 50, 20000)
    spans = [(float(a), float(a + d), int(n)) for a, d, n in zip(first, span, rng.integers(1, 400, 20000), strict=True)]
    columns = [list(column) for column in zip(*spans, strict=True)]
    whole = "SELECT count(*) FROM (SELECT unnest(?) AS f, unnest(?) AS l, unnest(?) AS n) WHERE tokens_inside(f, l, n, f, l) <> n"
    columns_of_one = [n == 1 for n in columns[2]]
    columns[1] = [f if one else last for f, last, one in zip(columns[0], columns[1], columns_of_one, strict=True)]
    assert connection.execute(whole, columns).fetchall() == [(0,)]
    for f, last, n in spans[:300]:
        low, high = sorted(rng.uniform(f - 5, last + 5, 2).tolist())
        counted = sum(low <= moment <= high for moment in np.linspace(f, last, n))
        assert connection.execute("SELECT tokens_inside(?, ?, ?, ?, ?)", [f, last, n, low, high]).fetchall() == [(counted,)]
