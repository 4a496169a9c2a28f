"""Telemetry: Prometheus text read right, and a real poller that outlives nothing and survives a server's death."""

import time

import pytest

from harness.engine import EngineError
from harness.monitor.telemetry import Telemetry, parse_metrics, plain_values
from tests.patience import wait_until
from tests.stand_ins.small_server import small_server

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1.5e+03
vllm:generation_tokens_created{engine="0",model_name="tiny"} 1.7952600582854683e+09
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 9.0
vllm:request_queue_time_seconds_count{engine="0",model_name="tiny"} 9.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="tiny"} 0.5
vllm:cache_config_info{block_size="32"} 1.0
process_resident_memory_bytes 7.0e+08
"""


def test_samples_have_names_labels_and_values() -> None:
    samples = parse_metrics('# TYPE a counter\na{path="C:\\\\x",say="\\"hi, }\\"\\n"} 1 1700000000\n\nb 2.5e-3\nc{} +Inf\nd NaN\n')
    assert [s.name for s in samples] == ["a", "b", "c", "d"]
    assert samples[0].labels == {"path": "C:\\x", "say": '"hi, }"\n'}
    assert [s.value for s in samples[:3]] == [1.0, 0.0025, float("inf")]
    assert samples[3].value != samples[3].value


@pytest.mark.parametrize("line", ["<html>", "a{b=1", "name value"])
def test_what_is_no_sample_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"line 2: not a Prometheus sample|could not convert"):
        parse_metrics(f"good 1\n{line}\n")


def test_plain_values_are_the_engine_s_gauges_and_counters() -> None:
    assert plain_values(METRICS, "vllm:") == {
        "num_requests_running": 7.0,
        "kv_cache_usage_perc": 0.5,
        "generation_tokens_total": 1500.0,
        "request_queue_time_seconds_count": 9.0,
        "request_queue_time_seconds_sum": 0.5,
    }


def test_values_are_polled_while_the_block_runs() -> None:
    with small_server({"GET /metrics": (200, "vllm:x 1\n")}) as server:
        epoch = time.monotonic()
        with Telemetry(f"{server.url}/metrics", 0.05, lambda text: plain_values(text, "vllm:")) as telemetry:
            wait_for_polls(server.asked, 2)
            server.answers["GET /metrics"] = (200, "vllm:x 2\n")
            wait_for_polls(server.asked, len(server.asked) + 2)
        ended = time.monotonic() - epoch
        asked = len(server.asked)
        frame = telemetry.frame(epoch)
    assert list(frame.columns) == ["time", "name", "value"]
    assert set(frame["name"]) == {"x"} and set(frame["value"]) == {1.0, 2.0}
    assert frame["value"].is_monotonic_increasing and frame["time"].is_monotonic_increasing
    assert frame["time"].between(0, ended).all()
    assert len(frame) <= asked


def test_a_server_that_dies_ends_the_series_and_nothing_else() -> None:
    with small_server({"GET /metrics": (200, "vllm:x 1\n")}) as server:
        telemetry = Telemetry(f"{server.url}/metrics", 0.05, lambda text: plain_values(text, "vllm:"))
        telemetry.__enter__()
        wait_for_polls(server.asked, 2)
    time.sleep(0.3)  # it polls on, at nobody
    telemetry.__exit__(None, None, None)
    assert len(telemetry.frame(0.0)) >= 1


def test_a_server_without_metrics_gives_an_empty_frame() -> None:
    with small_server({}) as server:
        with Telemetry(f"{server.url}/metrics", 0.05, lambda text: plain_values(text, "vllm:")) as telemetry:
            wait_for_polls(server.asked, 2)
        frame = telemetry.frame(0.0)
    assert len(frame) == 0 and list(frame.columns) == ["time", "name", "value"]


def test_an_interval_of_zero_asks_nothing() -> None:
    with small_server({"GET /metrics": (200, "vllm:x 1\n")}) as server:
        with Telemetry(f"{server.url}/metrics", 0.0, lambda text: plain_values(text, "vllm:")) as telemetry:
            pass
        assert server.asked == [] and len(telemetry.frame(0.0)) == 0


def test_a_poller_that_fails_is_an_error() -> None:
    words = "telemetry of nonsense: its poller ended with exit code 1: ValueError: unknown url"
    with pytest.raises(EngineError, match=words), Telemetry("nonsense", 0.05, lambda text: {}):
        pass
    with pytest.raises(ZeroDivisionError), Telemetry("nonsense", 0.05, lambda text: {}):
        raise ZeroDivisionError


def wait_for_polls(asked: list[tuple[str, str | None]], number: int) -> None:
    assert wait_until(lambda: len(asked) >= number), f"only {len(asked)} polls"
