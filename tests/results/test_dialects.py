"""Each other tool's numbers for the six requests of hand.py, computed by its own formula, by hand; and its percentiles on a random run."""

from typing import Any

import duckdb
import numpy as np
import pytest

from tests.results.conftest import Build
from tests.results.hand import change_record, hand_run
from tests.runs import make_run

# Of the five requests that did not fail (0, 1, 2, 3, 5), counted from `sent`:
TTFT = [0.25, 0.375, 0.75, 0.25, 0.25]
LATENCY = [1.5, 0.875, 1.75, 0.25, 0.75]  # sum 5.125
TOKENS = [6, 5, 5, 1, 3]  # sum 20; prompts 10 + 20 + 30 + 7 + 5 = 72
TPOT = [0.25, 0.125, 0.25, 0.25]  # none for request 3, of one token
# the last token comes at 4.0, the first request was sent at 0.5


def dialect(connection: duckdb.DuckDBPyConnection, name: str, run_id: str = "hand") -> dict[tuple[str, str | None], Any]:
    rows = connection.execute("SELECT metric, stat, value FROM dialect_metrics WHERE dialect = ? AND run_id = ?", [name, run_id])
    found = rows.fetchall()
    values = {(metric, stat): value for metric, stat, value in found}
    assert len(values) == len(found)
    return values


def expect(values: dict[tuple[str, str | None], Any], expected: dict[tuple[str, str | None], float]) -> None:
    for key, value in expected.items():
        assert values[key] == pytest.approx(value, rel=1e-12), key
    assert {m for m, _ in values} == {m for m, _ in expected}, "metrics that no line here checks"


def test_vllm(built: Build) -> None:
    expected = {
        ("ttft", "mean"): 1.875 / 5,
        ("ttft", "p50"): 0.25,
        ("ttft", "p99"): 0.375 + 0.96 * 0.375,
        ("tpot", "mean"): 0.21875,
        ("tpot", "p50"): 0.25,
        ("e2el", "p50"): 0.875,
        ("itl", "mean"): (5 * 0.25 + 4 * 0.125 + 1.0 + 2 * 0.25) / 15,
        ("request_throughput", None): 5 / 4,
        ("request_goodput", None): 2 / 4,  # 1, and 3 whose TPOT it takes for 0
        ("output_throughput", None): 20 / 4,
        ("total_token_throughput", None): 92 / 4,
    }
    expect(dialect(built(hand_run()), "vllm"), expected)


def test_sglang(built: Build) -> None:
    expected = {
        ("ttft", "p50"): 0.25,
        ("tpot", "mean"): 0.21875,
        ("e2e_latency", "mean"): 5.125 / 5,
        ("itl", "mean"): 3.25 / 15,
        ("request_throughput", None): 5 / 4,
        ("input_throughput", None): 72 / 4,
        ("output_throughput", None): 20 / 4,
        ("total_throughput", None): 92 / 4,
        ("concurrency", None): 5.125 / 4,
    }
    expect(dialect(built(hand_run()), "sglang"), expected)


def test_aiperf(built: Build) -> None:
    expected = {
        ("time_to_first_token", "mean"): 1.875 / 5,
        ("time_to_first_token", "p90"): 0.375 + 0.6 * 0.375,
        ("time_to_first_output_token", "mean"): (0.625 + 1.25) / 2,  # request 4 failed, the others do not tell
        ("inter_token_latency", "mean"): 0.21875,
        ("request_latency", "p50"): 0.875,
        ("output_token_throughput_per_user", "mean"): (4 + 8 + 4 + 4) / 4,
        ("request_throughput", None): 5 / 3.5,
        ("output_token_throughput", None): 20 / 3.5,
        ("goodput", None): 1 / 3.5,  # request 3 has no ITL, so it is not good
        ("benchmark_duration", None): 3.5,
    }
    run = hand_run()
    for number, moment in ((1, 1.75), (2, 3.25), (4, 3.0)):
        run = change_record(run, number, first_output_token=moment)
    expect(dialect(built(run), "aiperf"), expected)
    assert dialect(built(hand_run()), "aiperf")["time_to_first_output_token", "mean"] is None


def test_guidellm(built: Build) -> None:
    expected = {
        ("time_to_first_token", "mean"): 1.875 / 5,
        ("time_to_first_token", "p90"): 0.75,  # a value that occurred, never one between two
        ("time_per_output_token", "mean"): 5.125 / 20,  # from the start, so TTFT is in it
        ("time_per_output_token", "p50"): 0.25,  # 0.175 x 5, 0.25 x 10, 0.35 x 5
        ("time_per_output_token", "p90"): 0.35,
        ("inter_token_latency", "mean"): 3.25 / 15,
        ("inter_token_latency", "p50"): 0.25,
        ("request_latency", "p50"): 0.875,
        ("requests_per_second", None): 5 / 4,
        ("output_tokens_per_second", None): 20 / 4,
        ("tokens_per_second", None): 92 / 4,
    }
    expect(dialect(built(hand_run()), "guidellm"), expected)


def test_inference_perf(built: Build) -> None:
    expected = {
        ("time_to_first_token", "mean"): (0.25 + 0.375 + 0.75 + 0.25) / 4,  # request 3 counts as not streamed
        ("time_per_output_token", "mean"): 0.21875,
        ("inter_token_latency", "mean"): 3.25 / 15,  # two of the gaps are the zeros inside a chunk
        ("normalized_time_per_output_token", "mean"): (0.25 + 0.175 + 0.35 + 0.25 + 0.25) / 5,
        ("request_latency", "mean"): 5.125 / 5,
        ("requests_per_sec", None): 5 / 3.5,
        ("input_tokens_per_sec", None): 72 / 3.5,
        ("output_tokens_per_sec", None): 20 / 3.5,
        ("total_tokens_per_sec", None): 92 / 3.5,
        ("request_goodput", None): 1 / 3.5,
        ("goodput_percentage", None): 20.0,  # of the five that succeeded
    }
    expect(dialect(built(hand_run()), "inference_perf"), expected)


def test_llmperf(built: Build) -> None:
    expected = {
        ("ttft", "p50"): 0.25,
        ("inter_token_latency", "mean"): (0.25 + 0.175 + 0.35 + 0.25 + 0.25) / 5,
        ("end_to_end_latency", "p90"): 1.5 + 0.6 * 0.25,
        ("request_output_throughput_token_per_s", "mean"): (4 + 5 / 0.875 + 5 / 1.75 + 4 + 4) / 5,
        ("mean_output_throughput_token_per_s", None): 20 / 3.5,
        ("num_completed_requests_per_min", None): 60 * 5 / 3.5,
        ("error_rate", None): 1 / 6,
    }
    expect(dialect(built(hand_run()), "llmperf"), expected)


def test_loadgen(built: Build) -> None:
    expected = {  # from the scheduled time: latencies 1.5, 1.0, 1.75, 0.25, 0.75; ranks floor(5 p)
        ("latency", "p50"): 1.0,
        ("latency", "p90"): 1.75,
        ("latency", "mean"): 5.25 / 5,
        ("first_token_latency", "mean"): (0.25 + 0.5 + 0.75 + 0.25 + 0.25) / 5,
        ("time_per_output_token", "p50"): 0.25,  # 0.125, 0.25, 0.25, 0.25
        ("completed_samples_per_second", None): 4 / 4,
        ("completed_tokens_per_second", None): 20 / 4,
    }
    expect(dialect(built(hand_run()), "loadgen"), expected)


def test_percentiles_on_a_random_run(built: Build) -> None:
    run = make_run("random", num_requests=101, failures=[3], seed=5)
    records: Any = [r for r in run.records if r.error is None]
    connection = built(run)
    ttft = np.array([r.first_token - r.sent for r in records])
    tokens = np.array([r.output_tokens for r in records])
    per_token = np.array([(r.finished - r.sent) / r.output_tokens for r in records])
    latency = np.sort([r.finished - r.arrival for r in records])
    order = np.argsort(per_token)
    reached = np.cumsum(tokens[order])
    for stat, p in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert dialect(connection, "vllm", "random")["ttft", stat] == pytest.approx(np.percentile(ttft, 100 * p))
        weighted = per_token[order][np.searchsorted(reached, p * tokens.sum())]
        assert dialect(connection, "guidellm", "random")["time_per_output_token", stat] == pytest.approx(weighted)
        assert dialect(connection, "loadgen", "random")["latency", stat] == pytest.approx(latency[int(len(latency) * p)])


def test_of_an_all_failed_run_vllm_prints_zeros_and_the_others_nothing(built: Build) -> None:
    connection = built(make_run("dead", failures=range(40)))
    assert dialect(connection, "vllm", "dead")["ttft", "mean"] == 0
    assert dialect(connection, "sglang", "dead")["tpot", "p99"] == 0
    assert dialect(connection, "sglang", "dead")["e2e_latency", "mean"] is None
    assert dialect(connection, "aiperf", "dead")["time_to_first_token", "p50"] is None
    assert dialect(connection, "llmperf", "dead")["error_rate", None] == 1


def test_what_a_simulator_does_not_show_is_unknown_in_every_dialect(built: Build) -> None:
    connection = built(make_run("hidden", token_times=False))
    assert dialect(connection, "vllm", "hidden")["itl", "p50"] is None
    assert dialect(connection, "inference_perf", "hidden")["inter_token_latency", "mean"] is None
