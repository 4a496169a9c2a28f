"""The files that load generators wrote become runs: what each tool says of its own run in the same file is what our metrics say of ours."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from results.record import EngineLimits, Run
from results.recordings.import_run import Options, import_run
from results.recordings.recording import RecordingError
from results.storage.store import read_run, write_run

FILES = Path(__file__).parent / "files"
SAID = Options(system="vllm", model="tiny", hardware="h100", started_at="2026-11-29T20:00:00Z")
Built = Callable[..., duckdb.DuckDBPyConnection]
Summary = Mapping[tuple[str, str], float]  # (metric, stat) of the tool's dialect to seconds


def imported(name: str, **options: Any) -> Run:
    return import_run(FILES / name, replace(SAID, **options))


def content(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FILES / name).read_text())
    return value


def of_client(name: str, *metrics: str) -> Summary:
    """vLLM's and SGLang's: mean_ttft_ms and so on, in the file itself."""
    said = content(name)
    return {
        (m, stat): said[f"{word}_{m}_ms"] / 1e3 for m in metrics for stat, word in (("mean", "mean"), ("p50", "median"), ("p99", "p99"))
    }


def of_aiperf(name: str) -> Summary:
    said = content(f"{name}/profile_export_aiperf.json")
    metrics = ("time_to_first_token", "inter_token_latency", "request_latency")
    return {(m, stat): said[m][word] / 1e3 for m in metrics for stat, word in (("mean", "avg"), ("p50", "p50"), ("p99", "p99"))}


def of_guidellm(name: str, number: int) -> Summary:
    said = content(name)["benchmarks"][number - 1]["metrics"]
    pairs = (("time_to_first_token", "time_to_first_token_ms"), ("inter_token_latency", "inter_token_latency_ms"))
    return {(ours, "mean"): said[theirs]["successful"]["mean"] / 1e3 for ours, theirs in pairs}


def of_inference_perf() -> Summary:
    said = content("inference_perf/summary_lifecycle_metrics.json")["successes"]["latency"]
    return {
        (m, stat): said[m][word]
        for m in ("time_to_first_token", "time_per_output_token")
        for stat, word in (("mean", "mean"), ("p50", "median"))
    }


VLLM, SGLANG = ("ttft", "tpot", "e2el"), ("ttft",)
AGREES: dict[str, tuple[str, dict[str, Any], Summary]] = {  # file: dialect, options, the tool's own summary
    "vllm_python_open.json": ("vllm", {}, of_client("vllm_python_open.json", *VLLM)),
    "vllm_python_closed.json": ("vllm", {}, of_client("vllm_python_closed.json", *VLLM)),
    "vllm_python_limited.json": ("vllm", {}, of_client("vllm_python_limited.json", *VLLM)),
    "vllm_python_several.json": ("vllm", {}, of_client("vllm_python_several.json", *VLLM)),
    "vllm_python_failed.json": ("vllm", {}, of_client("vllm_python_failed.json", "ttft", "tpot")),
    "vllm_rust_open.json": ("vllm", {}, of_client("vllm_rust_open.json", *VLLM)),
    "vllm_rust_closed.json": ("vllm", {}, of_client("vllm_rust_closed.json", *VLLM)),
    "sglang_python_closed.jsonl": ("sglang", {}, of_client("sglang_python_closed.jsonl", *SGLANG)),
    "sglang_python_at_once.jsonl": ("sglang", {}, of_client("sglang_python_at_once.jsonl", *SGLANG)),
    "sglang_rust_closed.jsonl": ("sglang", {}, of_client("sglang_rust_closed.jsonl", *SGLANG)),
    "aiperf_open/profile_export.jsonl": ("aiperf", {}, of_aiperf("aiperf_open")),
    "aiperf_closed": ("aiperf", {}, of_aiperf("aiperf_closed")),
    "aiperf_failed": ("aiperf", {}, of_aiperf("aiperf_failed")),
    "guidellm_poisson.json": ("guidellm", {}, of_guidellm("guidellm_poisson.json", 1)),
    "guidellm_concurrent.json": ("guidellm", {"benchmark": 2}, of_guidellm("guidellm_concurrent.json", 2)),
    "guidellm_0_3_constant.json": ("guidellm", {}, of_guidellm("guidellm_0_3_constant.json", 1)),
    "inference_perf": ("inference_perf", {}, of_inference_perf()),
}


@pytest.mark.parametrize("name", AGREES)
def test_our_metrics_of_the_run_are_those_that_the_tool_gave_in_its_file(name: str, built: Built) -> None:
    """results/dialects.sql has each tool's definition of its metrics: so the same requests must give the same numbers."""
    dialect, options, summary = AGREES[name]
    run = imported(name, **options)
    rows = built(run).execute("SELECT metric, stat, value FROM dialect_metrics WHERE dialect = ?", [dialect]).fetchall()
    found = {(metric, stat): value for metric, stat, value in rows}
    assert summary
    assert {key: found[key] for key in summary} == pytest.approx(dict(summary), abs=2e-6)


@pytest.mark.parametrize("name", AGREES)
def test_a_run_of_a_tool_keeps_the_laws_and_survives_the_disk(name: str, tmp_path: Path) -> None:
    run = imported(name, **AGREES[name][1])
    assert run.trace.requests[0].arrival == 0.0
    for asked, r in zip(run.trace, run.records, strict=True):
        assert r.sent is not None and asked.arrival <= r.sent
        if r.error is None:
            assert r.first_token is not None and r.finished is not None and r.sent < r.first_token <= r.finished
            assert (r.input_tokens, r.output_tokens) == (asked.input_tokens, asked.output_tokens)
        if r.token_times is not None:
            assert len(r.token_times) == r.output_tokens
            assert (r.token_times[0], r.token_times[-1]) == (r.first_token, r.finished)
            assert list(r.token_times) == sorted(r.token_times)
    assert read_run(write_run(tmp_path, run)) == run


COUNTS = {  # file: (requests, failed, with token times, load)
    "vllm_python_open.json": (12, 0, 12, "open loop, 40 requests/s"),
    "vllm_python_closed.json": (12, 0, 12, "closed loop of 3"),
    "vllm_python_limited.json": (12, 0, 12, "open loop, 40 requests/s, at most 2 in flight"),
    "vllm_python_several.json": (10, 0, 0, "open loop, 40 requests/s"),  # four tokens in each chunk
    "vllm_python_failed.json": (12, 4, 8, "open loop, 40 requests/s"),
    "vllm_rust_open.json": (12, 0, 12, "open loop, 40 requests/s"),
    "vllm_rust_closed.json": (12, 0, 12, "closed loop of 3"),
    "sglang_python_closed.jsonl": (12, 0, 12, "closed loop of 3"),
    "sglang_python_at_once.jsonl": (12, 0, 12, "all at once"),
    "sglang_rust_closed.jsonl": (12, 0, 12, "closed loop of 3"),
    "aiperf_open/profile_export.jsonl": (12, 0, 12, "open loop, 40 requests/s"),  # 3 of the warm-up are left out
    "aiperf_closed": (10, 0, 10, "closed loop of 3"),
    "aiperf_failed": (10, 5, 5, "open loop, 40 requests/s"),
    "guidellm_poisson.json": (10, 0, 0, "open loop, poisson, 30 requests/s"),
    "guidellm_concurrent.json": (5, 0, 0, "closed loop of 3"),
    "guidellm_0_3_constant.json": (6, 0, 0, "open loop, constant, 20 requests/s"),
    "inference_perf": (18, 0, 18, "open loop, constant, 6, then 12 requests/s"),
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_request_is_a_row_and_the_load_is_told(name: str) -> None:
    requests, failed, timed, load = COUNTS[name]
    run = imported(name, **AGREES[name][1])
    assert (len(run.records), sum(r.error is not None for r in run.records)) == (requests, failed)
    assert sum(r.token_times is not None for r in run.records) == timed
    assert run.provenance["load"] == load
    assert run.valid


def test_arrivals_are_when_requests_were_due_where_the_tool_says_so() -> None:
    """With at most 2 in flight requests wait in the client: vLLM's queue_times. A closed loop has no such time."""
    limited, closed = imported("vllm_python_limited.json"), imported("vllm_python_closed.json")
    waits = content("vllm_python_limited.json")["queue_times"]
    assert [r.sent - r.arrival for r in limited.records if r.sent is not None] == pytest.approx(waits, abs=1e-9)
    assert max(waits) > 0.1
    assert [r.sent for r in closed.records] == [r.arrival for r in closed.records]
    assert "arrival" in closed.provenance["assumed"] and "arrival" not in limited.provenance["assumed"]
    lines = [json.loads(line) for line in (FILES / "aiperf_open/profile_export.jsonl").read_text().splitlines()]
    measured = sorted(
        (line["metadata"] for line in lines if line["metadata"]["benchmark_phase"] == "profiling"), key=lambda m: m["credit_issued_ns"]
    )
    due = [(m["request_start_ns"] - m["credit_issued_ns"]) / 1e9 for m in measured]
    assert [r.sent - r.arrival for r in imported("aiperf_open").records if r.sent is not None] == pytest.approx(due, abs=1e-9)
    assert imported("aiperf_open").provenance["assumed"]["warm-up"].startswith("3 requests")


@pytest.mark.parametrize("name", ["vllm_python_closed.json", "vllm_rust_closed.json"])
def test_a_closed_loop_without_start_times_is_put_together_as_it_was(name: str, tmp_path: Path) -> None:
    """Of a file that has start times, taken away: what comes out is what was measured, but for the client's own milliseconds."""
    said = content(name)
    (tmp_path / name).write_text(json.dumps({key: value for key, value in said.items() if key not in ("start_times", "queue_times")}))
    again, real = import_run(tmp_path / name, SAID), imported(name)
    by_id = {r.request_id: r for r in again.records}
    assert max(abs((by_id[r.request_id].sent or 0.0) - (r.sent or 0.0)) for r in real.records) < 0.01
    assert "sent" in again.provenance["assumed"]


def test_what_is_given_goes_before_what_the_file_says(tmp_path: Path) -> None:
    about = tmp_path / "about.yaml"
    about.write_text(
        "system: sglang\nversion: 0.5.9\nhardware: h100\nlimits: {kv_tokens: 9000, max_num_seqs: 64}\nslo: {ttft: 0.2}\nload: by hand\n"
    )
    run = import_run(FILES / "vllm_python_open.json", Options(about=about, model="qwen3_32b"))
    assert (run.system, run.version, run.hardware, run.model) == ("sglang", "0.5.9", "h100", "qwen3_32b")
    assert run.limits == EngineLimits(kv_tokens=9000, max_num_seqs=64)
    assert (run.slo.ttft, run.provenance["load"], run.started_at[:19]) == (0.2, "by hand", "2026-11-29T20:14:29")
    assert "kv_tokens" not in run.provenance["not_recorded"] and "block_size" in run.provenance["not_recorded"]
    assert imported("vllm_python_open.json").provenance["not_recorded"][0] == "version"


def test_what_an_sglang_server_said_of_itself_is_taken(tmp_path: Path) -> None:
    info = {
        "model_path": "org/Llama-3.1-8B",
        "version": "0.5.23",
        "tp_size": 2,
        "page_size": 1,
        "max_running_requests": 48,
        "context_length": 4096,
    }
    info |= {"chunked_prefill_size": -1, "max_prefill_tokens": 16384, "disable_radix_cache": True, "max_total_num_tokens": 70000}
    (tmp_path / "x.jsonl").write_text(json.dumps(content("sglang_python_closed.jsonl") | {"server_info": info}))
    run = import_run(tmp_path / "x.jsonl", Options(hardware="h100", started_at="2026-11-29"))
    assert (run.system, run.version, run.model) == ("sglang", "0.5.23", "llama_3_1_8b")
    assert run.limits == EngineLimits(
        kv_tokens=70000, block_size=1, max_num_seqs=48, max_num_batched_tokens=16384, max_model_len=4096, chunked_prefill=False,
        prefix_caching=False, tensor_parallel=2,
    )  # fmt: skip


def test_a_trace_of_blis_has_its_two_clocks_put_on_one() -> None:
    """sent - arrival is 500, 100, 2000 and 0 us more than the least of them, which is taken as the clocks' difference less 0."""
    run = imported("blis/trace.csv", system=None, model="qwen3_32b")
    assert (run.system, run.limits.tensor_parallel, run.limits.max_num_seqs) == ("vllm", 2, 128)
    assert [r.arrival for r in run.records] == pytest.approx([0.0, 0.28, 0.385, 0.49])
    assert [r.sent - r.arrival for r in run.records if r.sent is not None] == pytest.approx([0.0005, 0.0001, 0.002, 0.0], abs=1e-9)
    one, several, late, last = run.records
    assert (
        one.token_times == pytest.approx((0.0735, 0.083, 0.0935)) and several.token_times is None and last.token_times == (last.finished,)
    )
    assert (one.input_tokens, last.input_tokens, run.trace.requests[2].input_tokens) == (
        1010,
        200,
        1024,
    )  # the server's, the client's, with prefix
    assert (late.error, late.finished, late.first_token) == ("timeout: context deadline exceeded", None, None)


def test_a_file_with_several_results_asks_for_one(tmp_path: Path) -> None:
    both = tmp_path / "both.json"
    both.write_text("\n".join((FILES / f"vllm_python_{kind}.json").read_text() for kind in ("open", "closed")))
    assert import_run(both, replace(SAID, benchmark=2)).records == imported("vllm_python_closed.json").records
    for path, options, words in (
        (
            both,
            SAID,
            "it has 2 results; give --benchmark with the number of one of them (1: 20261129-201430, rate 40.0, at most None in flight; 2: ",
        ),
        (FILES / "guidellm_concurrent.json", SAID, "(1: closed loop of 1; 2: closed loop of 3)"),
        (both, replace(SAID, benchmark=3), "it has 2 results"),
        (FILES / "blis/trace.csv", replace(SAID, benchmark=1), "leave out --benchmark"),
    ):
        with pytest.raises(RecordingError) as caught:
            import_run(path, options)
        assert words in str(caught.value)
