"""Runs recorded by others become ordinary runs: their times and counts survive, what is unknown stays unknown, each error is one line."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from results.project.folder import ROOT
from results.record import SLO, EngineLimits, Run
from results.recordings.import_run import Options, import_run
from results.recordings.recording import RecordingError
from results.recordings.shared_blocks import shared_blocks
from results.storage.store import read_run, write_run
from tests.benches import Bench
from tests.runs import make_run
from workloads.prompts import token_ids
from workloads.trace import Request, Trace, TraceError

MEASURED = ROOT.parent / "shared" / "data" / "measured"
REAL = {  # folder: (model, tensor_parallel, max_model_len)
    "rtxpro6000_llama-3.1-8b": ("llama_3_1_8b", 1, 131072),
    "rtxpro6000_qwen3-32b": ("qwen3_32b", 2, 40960),
}
needs_real = pytest.mark.skipif(
    not MEASURED.is_dir(), reason="needs ../shared/data/measured: LLMServingSim's bench/examples (github.com/casys-kaist/LLMServingSim)"
)
Built = Callable[..., duckdb.DuckDBPyConnection]

ABOUT = {
    "system": "vllm",
    "version": "0.19.0",
    "model": "llama_3_1_8b",
    "hardware": "rtx_pro_6000",
    "started_at": "2026-04-25T20:47:18+02:00",
    "limits": {"max_num_seqs": 128, "kv_tokens": 5000, "prefix_caching": True},
    "slo": {"ttft": 0.5},
    "notes": "by hand",
}
HEADER = "request_id,arrival,sent,scheduled,first_token,finished,input_tokens,output_tokens,cached_tokens,error"
ROWS = ["7,0.5,0.5001,0.6,0.7,1.7,100,11,16,", "3,0,0.0001,,0.2,0.2,50,1,,", "9,1.25,1.26,,,,30,5,,connection reset"]


def plain(folder: Path, rows: Sequence[str] = ROWS, *, header: str = HEADER, **about: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requests.csv").write_text("\n".join([header, *rows]) + "\n")
    said = {key: value for key, value in {**ABOUT, **about}.items() if value is not None}
    (folder / "run.json").write_text(json.dumps(said))
    return folder


def bench_form(folder: Path, *, offset: float = 1000.0, meta: Mapping[str, Any] = {}, **changed: Any) -> Path:
    """Three requests: 2, 1 and 4 ms from arrival to queue. offset: engine's clock - (wall clock - 1.7e9 s)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (arrival, queue, prefill, tokens) in enumerate([(0.0, 0.002, 0.1, 21), (0.25, 0.001, 0.2, 11), (0.5, 0.004, 0.3, 31)]):
        queued = offset + arrival + queue
        first = queued + prefill
        line = {"request_id": f"bench-{i}", "input_toks": 64 * (i + 1), "output_toks": tokens, "arrival_time": 1.7e9 + arrival}
        stamps = {
            "queued_ts": queued,
            "scheduled_ts": queued + 0.001,
            "first_token_ts": first,
            "last_token_ts": first + 0.01 * (tokens - 1),
        }
        lines.append(line | stamps)
    lines[2] |= changed
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "model": "meta-llama/Llama-3.1-8B",
        "vllm_version": "0.19.0",
        "engine_kwargs": {
            "tensor_parallel_size": 1,
            "max_num_seqs": 128,
            "max_num_batched_tokens": 2048,
            "max_model_len": None,
            "seed": 42,
        },
        "dataset_path": "workloads/small.jsonl",
        "started_at": "2023-11-14T22:13:19.9Z",
        "finished_at": "2023-11-14T22:13:22Z",
    }
    (folder / "meta.json").write_text(json.dumps({**content, **meta}))
    memory = {"mem_size": 95, "mem_bw": 1597}
    (folder / "config.json").write_text(json.dumps({"nodes": [{"instances": [{"hardware": "RTXPRO6000", "npu_mem": memory}]}]}))
    return folder


def test_the_plain_form_keeps_every_time_and_count(tmp_path: Path) -> None:
    run = import_run(plain(tmp_path / "mine"), Options())
    assert [r.request_id for r in run.records] == [3, 7, 9]  # in order of arrival
    one, other, failed = run.records
    assert (other.arrival, other.sent, other.scheduled, other.first_token, other.finished) == (0.5, 0.5001, 0.6, 0.7, 1.7)
    assert (other.input_tokens, other.output_tokens, other.cached_tokens, other.error) == (100, 11, 16, None)
    assert (one.scheduled, one.cached_tokens, one.token_times) == (None, None, None)
    assert (failed.error, failed.finished, failed.output_tokens, failed.sent) == ("connection reset", None, None, 1.26)
    assert [(r.input_tokens, r.output_tokens) for r in run.trace] == [(50, 1), (100, 11), (30, 5)]
    assert (run.kind, run.system, run.version, run.model, run.hardware, run.workload) == (
        "measured", "vllm", "0.19.0", "llama_3_1_8b", "rtx_pro_6000", "mine"
    )  # fmt: skip
    assert run.limits == EngineLimits(max_num_seqs=128, kv_tokens=5000, prefix_caching=True)
    assert run.slo == SLO(ttft=0.5)
    assert run.config["model"]["num_hidden_layers"] == 32
    assert run.config["hardware"]["memory_gb"] == 102.6  # 96 GiB in GB
    assert run.started_at == "2026-04-25T18:47:18+00:00"
    assert run.run_id == "20260425T184718-vllm-mine"
    unknown = ["block_size", "max_num_batched_tokens", "max_model_len", "chunked_prefill"]
    assert (run.provenance["notes"], run.provenance["not_recorded"]) == ("by hand", unknown)
    assert read_run(write_run(tmp_path / "runs", run)) == run


def test_jsonl_and_yaml_say_the_same_as_csv_and_json(tmp_path: Path) -> None:
    from_csv = import_run(plain(tmp_path / "mine"), Options())
    other = tmp_path / "other" / "mine"
    other.mkdir(parents=True)
    names = HEADER.split(",")
    text = {"error"}
    lines = [
        {
            n: cell if n in text else float(cell) for n, cell in zip(names, row.split(","), strict=True) if cell
        }  # whole floats are counts too
        for row in ROWS
    ]
    (other / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    about = "".join(f"{key}: {json.dumps(value)}\n" for key, value in ABOUT.items() if key != "started_at")
    (other / "run.yaml").write_text(about + "started_at: 2026-04-25T18:47:18Z\n")
    from_jsonl = import_run(other, Options())
    assert from_jsonl.records == from_csv.records
    assert from_jsonl.trace.sha256 == from_csv.trace.sha256
    assert (from_jsonl.limits, from_jsonl.slo, from_jsonl.started_at) == (from_csv.limits, from_csv.slo, from_csv.started_at)


def test_a_file_beside_its_sidecar_and_a_sidecar_elsewhere(tmp_path: Path) -> None:
    folder = plain(tmp_path / "mine")
    (folder / "requests.csv").rename(tmp_path / "alone.csv")
    options = Options(about=folder / "run.json", model="qwen3_32b", hardware="h100", slo="none", run_id="named")
    run = import_run(tmp_path / "alone.csv", options)
    assert (run.run_id, run.workload, run.model, run.hardware, run.slo) == ("named", "alone", "qwen3_32b", "h100", SLO())
    (folder / "run.json").rename(tmp_path / "alone.json")
    assert import_run(tmp_path / "alone.csv", Options()).records == run.records


@pytest.mark.parametrize(
    ("notes", "engine", "heard"),
    [
        ("built from main, asynchronous scheduling off; times are the server's own", {}, {"async_scheduling": False}),
        ("vllm serve --async-scheduling False", {"dtype": "auto"}, {"async_scheduling": False, "dtype": "auto"}),
        ("asynchronous scheduling off", {"async_scheduling": True}, {"async_scheduling": True}),
        ("NCCL peer-to-peer is off for TP 2 and 4", {}, {"nccl_p2p": False}),
        ("NCCL_P2P_DISABLE=1, asynchronous scheduling off", {}, {"nccl_p2p": False, "async_scheduling": False}),
        ("nothing of the kind", {}, {}),
    ],
)
def test_what_notes_say_of_the_engine_is_heard(tmp_path: Path, notes: str, engine: dict[str, object], heard: dict[str, object]) -> None:
    folder = plain(tmp_path / "mine")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "notes": notes, "engine": engine}))
    told = import_run(folder, Options()).config["engine"]
    assert {name: told[name] for name in ("async_scheduling", "nccl_p2p", "dtype") if name in told} == heard


def test_without_a_column_sent_all_are_sent_at_their_arrival_and_it_says_so(tmp_path: Path) -> None:
    rows = ["0,0.1,0.2,10,2", "1,1.3,1.5,10,2"]
    run = import_run(plain(tmp_path, rows, header="arrival,first_token,finished,input_tokens,output_tokens"), Options())
    assert [r.sent for r in run.records] == [0.0, 1.0] == [r.arrival for r in run.trace_as_sent()]
    assert "arrival" in run.provenance["assumed"]["sent"]
    assert [r.request_id for r in run.records] == [0, 1]


def test_a_run_written_in_the_plain_form_is_imported_the_same(tmp_path: Path, built: Built) -> None:
    """Any measured run survives the way out and in: same records, same metrics."""
    original = make_run(token_times=False, failures=[4])
    rows = []
    for asked, r in zip(original.trace, original.records, strict=True):
        times = [r.arrival, r.sent, r.scheduled, r.first_token, r.finished]
        cells = [r.request_id, *times, asked.input_tokens, asked.output_tokens, r.cached_tokens, r.error]
        blocks = " ".join(map(str, asked.blocks))
        rows.append(",".join("" if cell is None else repr(cell) if isinstance(cell, float) else str(cell) for cell in [*cells, blocks]))
    about = {"block_size": 16, "slo": {"ttft": original.slo.ttft, "tpot": original.slo.tpot}, "run_id": "copy"}
    copy = import_run(plain(tmp_path, rows, header=f"{HEADER},blocks", **about), Options(window=original.window))
    assert copy.trace.sha256 == original.trace.sha256
    assert [(r.request_id, r.sent, r.scheduled, r.first_token, r.finished, r.error) for r in copy.records] == [
        (r.request_id, r.sent, r.scheduled, r.first_token, r.finished, r.error) for r in original.records
    ]
    metrics = built(original, copy).execute("SELECT metric, stat, list(value) FROM run_metrics GROUP BY ALL").fetchall()
    assert len(metrics) > 30
    for metric, stat, (left, right) in metrics:
        assert left == pytest.approx(right, nan_ok=True), (metric, stat)


GOOD = "0,0,0,,0.1,0.2,10,2,,"
BAD_ROWS = {
    "requests.csv:3: input_tokens must be a number, got 'ten'": "1,1,1,,1.1,1.2,ten,2,,",
    "requests.csv:3: arrival must be a number, got 'nan'": "1,nan,1,,1.1,1.2,10,2,,",
    "requests.csv:3: arrival must be a number, got None": "1,,1,,1.1,1.2,10,2,,",
    "output_tokens must be >= 1, got 0": "1,1,1,,1.1,1.2,10,0,,",
    "requests.csv:3: 9 cells, but the header has 10": "1,1,1,,1.1,1.2,10,2,",
    "requests.csv:3: finished missing, and no error says why": "1,1,1,,1.1,,10,2,,",
    "requests.csv:3: sent missing, and no error says why": "1,1,,,1.1,1.2,10,2,,",
    "requests.csv:3: first_token (0.9 s) is before sent (1.0 s)": "1,1,1,,0.9,1.2,10,2,,",
    "requests.csv:3: finished (1.05 s) is before first_token (1.1 s)": "1,1,1,,1.1,1.05,10,2,,",
    "requests.csv:3: cached_tokens must be 0 to input_tokens (10), got 11": "1,1,1,,1.1,1.2,10,2,11,",
    "requests.csv:3 (request 0): request_id 0 appears twice": "0,1,1,,1.1,1.2,10,2,,",
    "is a wall-clock time; subtract": "1,1777142838,1777142838,,1777142839,1777142840,10,2,,",
}


@pytest.mark.parametrize("words", BAD_ROWS)
def test_a_malformed_row_is_named(tmp_path: Path, words: str) -> None:
    folder = plain(tmp_path, [GOOD, BAD_ROWS[words]])
    with pytest.raises((RecordingError, TraceError)) as caught:
        import_run(folder, Options())
    assert words in str(caught.value)
    assert f"{folder}/requests.csv:3" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_ABOUT: dict[str, Mapping[str, Any]] = {
    "run.json: system, started_at missing": {"system": None, "started_at": None},
    "run.json: unknown name 'hardwear'; did you mean hardware?": {"hardwear": "h100"},
    "conf/model/ has no llama.yaml; known: ": {"model": "llama"},
    "model must be a name from conf/model/ or have a name and a config": {"model": {"name": "x"}},
    "hardware must be a name from conf/hardware/ or have at least a name": {"hardware": {"memory_gb": 80}},
    "limits: unknown name 'max_seqs'; did you mean max_num_seqs?": {"limits": {"max_seqs": 4}},
    "limits: kv_tokens must be >= 1, got -1": {"limits": {"kv_tokens": -1}},
    "limits: chunked_prefill must be true or false, got 'yes'": {"limits": {"chunked_prefill": "yes"}},
    "slo: ttft must be a number, got 'fast'": {"slo": {"ttft": "fast"}},
    "started_at must be a date and time like": {"started_at": "yesterday"},
    "limits must hold names and values": {"limits": [1]},
    "rate must be a number, got 'high'": {"rate": "high"},
}


@pytest.mark.parametrize("words", BAD_ABOUT)
def test_a_malformed_sidecar_is_named(tmp_path: Path, words: str) -> None:
    with pytest.raises((RecordingError, TraceError)) as caught:
        import_run(plain(tmp_path, **BAD_ABOUT[words]), Options())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_column_is_not_lost_in_silence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"requests.csv:1: unknown name 'first_tokn'; did you mean first_token\?"):
        import_run(plain(tmp_path, header=HEADER.replace("first_token", "first_tokn")), Options())
    (tmp_path / "requests.csv").write_text("")
    with pytest.raises(TraceError, match=r"requests.csv: it is empty"):
        import_run(tmp_path, Options())
    (tmp_path / "requests.csv").rename(tmp_path / "requests.jsonl")
    (tmp_path / "requests.jsonl").write_text('{"arrival": 0, "input_tokens": 1\n')
    with pytest.raises(RecordingError, match=r"requests.jsonl:1: not JSON"):
        import_run(tmp_path, Options())


def test_parts_keep_the_trace_and_score_only_their_requests(tmp_path: Path, built: Built) -> None:
    rows = [f"{i},{i},{i},,{i}.5,{i}.9,10,5,," for i in range(10)]
    folder = plain(tmp_path / "mine", rows)
    whole, first, last, middle = (
        import_run(folder, options) for options in (Options(), Options(first=4), Options(last=3), Options(window=(2.5, 6.0)))
    )
    assert {run.trace.sha256 for run in (whole, first, last, middle)} == {whole.trace.sha256}
    assert {run.run_id for run in (first, last, middle)} == {f"{whole.run_id}-{part}" for part in ("first4", "last3", "from2.5to6s")}
    connection = built(whole, first, last, middle)
    scored = connection.execute("SELECT run_id, list(request_id ORDER BY request_id) FROM request_metrics WHERE in_window GROUP BY 1")
    assert dict(scored.fetchall()) == {
        whole.run_id: list(range(10)),
        first.run_id: [0, 1, 2, 3],
        last.run_id: [7, 8, 9],
        middle.run_id: [3, 4, 5, 6],
    }
    for options, words in (
        (Options(first=11), "--first must be 1 to 10"),
        (Options(last=0), "--last must be 1 to 10"),
        (Options(window=(20, 30)), "no request arrives then"),
    ):
        with pytest.raises(RecordingError, match=words):
            import_run(folder, options)
    with pytest.raises(RecordingError, match="at most one of"):
        Options(first=1, last=1)
    tied = plain(tmp_path / "tied", [f"{i},{i // 2},{i},,{i}.5,{i}.9,10,5,," for i in range(4)])
    with pytest.raises(RecordingError, match=r"--first 1: the requests on both sides of the cut arrive at 0\.0 s"):
        import_run(tied, Options(first=1))


@pytest.mark.parametrize("offset", [1000.0, -5e5, 1.7e9])
def test_two_clocks_become_one(tmp_path: Path, offset: float) -> None:
    """Whatever the offset was: gaps on the engine's clock stay, the fastest request waits 0 s, the others what they waited longer."""
    run = import_run(bench_form(tmp_path, offset=offset), Options())
    for r, queue, prefill, tokens in zip(run.records, (0.001, 0.0, 0.003), (0.1, 0.2, 0.3), (21, 11, 31), strict=True):
        assert r.sent == r.arrival
        assert r.first_token is not None and r.finished is not None and r.scheduled is not None
        assert r.scheduled - r.arrival == pytest.approx(queue + 0.001, abs=1e-6)
        assert r.first_token - r.arrival == pytest.approx(queue + prefill, abs=1e-6)
        assert r.finished - r.first_token == pytest.approx(0.01 * (tokens - 1), abs=1e-6)
    clock = run.provenance["clock"]
    assert clock["offset_s"] == pytest.approx(offset + 0.001 - 1.7e9, abs=1e-6)
    assert clock["too_short_by_at_most_s"] == pytest.approx(2.0 - (0.5 + 0.003 + 0.3 + 0.3), abs=1e-5)
    assert clock["too_short_by_at_most_s"] >= 0.001  # the truth


def test_what_was_not_read_back_is_assumed_by_name_or_unknown(tmp_path: Path) -> None:
    run = import_run(bench_form(tmp_path / "a"), Options())
    assert (run.system, run.version, run.model, run.workload, run.config["seed"]) == ("vllm", "0.19.0", "llama_3_1_8b", "small", 42)
    assert run.limits == EngineLimits(
        block_size=16,
        max_num_seqs=128,
        max_num_batched_tokens=2048,
        max_model_len=131072,
        chunked_prefill=True,
        prefix_caching=True,
    )
    assert run.provenance["assumed"].keys() == {"block_size", "chunked_prefill", "prefix_caching", "async_scheduling", "max_model_len"}
    assert all("not read back" in why for why in run.provenance["assumed"].values())
    assert run.provenance["not_recorded"] == ["kv_tokens"]
    assert run.provenance["in_process"] is True  # no server has seen these requests
    assert (run.config["hardware"]["memory_gb"], run.config["hardware"]["memory_bandwidth_gb_s"]) == (95, 1597)
    given = import_run(tmp_path / "a", Options(kv_tokens=9000))
    assert given.limits.kv_tokens == 9000
    assert "given" in given.provenance["assumed"]["kv_tokens"]
    older = import_run(bench_form(tmp_path / "b", meta={"vllm_version": "0.8.5"}), Options())  # whose defaults are not known here
    assert (older.limits.prefix_caching, older.limits.block_size) == (None, None)
    assert older.provenance["assumed"].keys() == {"max_model_len"}


def test_what_the_engine_said_goes_before_what_is_assumed(tmp_path: Path) -> None:
    meta = {
        "kv_cache": {"num_kv_tokens": 41408, "block_size": 32, "enable_prefix_caching": False},
        "resolved_config": {
            "scheduler_config": {"max_num_seqs": 64, "enable_chunked_prefill": False, "async_scheduling": False},
            "model_config": {"max_model_len": 4096},
            "compilation_config": "<CompilationConfig>",
        },
    }
    run = import_run(bench_form(tmp_path, meta=meta), Options())
    assert run.limits == EngineLimits(
        kv_tokens=41408,
        block_size=32,
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=4096,
        chunked_prefill=False,
        prefix_caching=False,
    )
    assert run.provenance["assumed"] == {}
    assert run.config["engine"]["details"]["vllm_config"]["scheduler_config"]["async_scheduling"] is False
    with pytest.raises(RecordingError, match="the recording itself says 41408"):
        import_run(tmp_path, Options(kv_tokens=1))


def test_a_request_that_never_finished_is_a_failed_record(tmp_path: Path) -> None:
    """vLLM's 0.0 is 'not yet', not a time."""
    run = import_run(bench_form(tmp_path, first_token_ts=0.0, last_token_ts=0.0), Options())
    assert run.records[2].error is not None
    assert (run.records[2].first_token, run.records[2].finished, run.records[2].output_tokens) == (None, None, None)
    assert run.records[2].scheduled is not None


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        ({"tensor_parallel_size": 2, "data_parallel_size": None}, (2, 1, 1, 1)),
        ({"data_parallel_size": 2, "enable_expert_parallel": True}, (1, 1, 2, 2)),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "data_parallel_size": 4, "enable_expert_parallel": True}, (2, 3, 4, 8)),
        ({"data_parallel_size": 2, "enable_expert_parallel": False}, (1, 1, 2, 1)),
    ],
)
def test_how_an_engine_shares_its_model_is_read(tmp_path: Path, arguments: Mapping[str, Any], devices: tuple[int, ...]) -> None:
    """Of vLLM's arguments; experts are spread over the devices of all replicas."""
    limits = import_run(bench_form(tmp_path, meta={"engine_kwargs": arguments}), Options()).limits
    assert (limits.tensor_parallel, limits.pipeline_parallel, limits.data_parallel, limits.expert_parallel) == devices


BAD_BENCH: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "requests.jsonl:3: scheduled_ts (5.0 s) is before queued_ts": ({"scheduled_ts": 5.0}, {}),
    "requests.jsonl:3: arrival_time is null": ({"arrival_time": None}, {}),
    "requests.jsonl:3: input_toks must be a whole number": ({"input_toks": 1.5}, {}),
    "requests.jsonl:3: unknown name 'extra'": ({"extra": 1}, {}),
    "meta.json: engine_kwargs: data_parallel_size must be a whole number": ({}, {"engine_kwargs": {"data_parallel_size": 1.5}}),
    "conf/model/ has nothing named like 'Falcon-180B'; give --model one of deepseek_v2_lite, ": ({}, {"model": "Falcon-180B"}),
    "meta.json: started_at must be a date": ({}, {"started_at": "?"}),
}


@pytest.mark.parametrize("words", BAD_BENCH)
def test_a_malformed_bench_is_named(tmp_path: Path, words: str) -> None:
    line, meta = BAD_BENCH[words]
    with pytest.raises((RecordingError, TraceError)) as caught:
        import_run(bench_form(tmp_path, meta=meta, **line), Options())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def ticks(folder: Path, rows: Sequence[str]) -> Path:
    (folder / "timeseries.csv").write_text("\n".join(["t,prompt_throughput,gen_throughput,running,waiting,kv_cache_pct", *rows]) + "\n")
    return folder


def test_ticks_are_placed_by_the_prompts_they_count(tmp_path: Path) -> None:
    """First tokens at 0.101, 0.45 and 0.803 s (64, 128, 192 tokens), ticks of 0.4 s: so their second 0 is
    after 0.101 - 0.4 (the first tick has the first) and before 0.803 - 0.8 s (the second has no third)."""
    folder = ticks(bench_form(tmp_path), ["0.4,160,10,2,0,0.0", "0.8,320,20,2,1,0.0", "1.2,480,20,1,0,0.0", "1.6,0,10,0,0,0.0"])
    run = import_run(folder, Options())
    assert run.telemetry is not None
    running = run.telemetry[run.telemetry["name"] == "num_requests_running"]
    assert running["value"].tolist() == [2, 2, 1, 0]
    np.testing.assert_allclose(np.diff(running["time"]), 0.4)
    assert running["time"].iloc[0] - 0.4 == pytest.approx((-0.299 + 0.003) / 2, abs=1e-6)
    assert "kv_cache_usage_perc" not in set(run.telemetry["name"])  # 0.0 while requests ran: never recorded
    assert "kv_cache_pct left out" in run.provenance["telemetry"]
    used = import_run(ticks(folder, ["0.4,160,10,2,0,12.5", "0.8,320,20,2,1,25", "1.2,480,20,1,0,9", "1.6,0,10,0,0,0"]), Options())
    assert used.telemetry is not None
    assert used.telemetry[used.telemetry["name"] == "kv_cache_usage_perc"]["value"].tolist() == [0.125, 0.25, 0.09, 0]
    nowhere = import_run(ticks(folder, ["0.4,170,10,2,0,0.0", "0.8,320,20,2,1,0.0"]), Options())
    assert nowhere.telemetry is None
    assert "left out" in nowhere.provenance["telemetry"]


def test_shared_blocks_are_those_the_prompts_were_made_from() -> None:
    """The inverse of workloads.prompts: the trace's sharing comes back from its token ids, whatever the ids are called."""
    chains = [(1, 2, 3), (1, 2), (), (1, 9), (5,), (1, 2, 3), (5, 6)]
    requests = tuple(
        Request(request_id=i, arrival=float(i), input_tokens=16 * len(chain) + 5, output_tokens=1, blocks=chain)
        for i, chain in enumerate(chains)
    )
    prompts = token_ids(Trace(name="x", requests=requests, block_size=16), vocab_size=32000, seed=1)
    one, two, three, five = (*(found := shared_blocks(prompts, 16))[0], *found[4])
    assert len({one, two, three, five}) == 4
    assert found == [(one, two, three), (one, two), (), (one,), (five,), (one, two, three), (five,)]


def test_prompts_give_the_trace_its_blocks_and_must_be_the_right_ones(tmp_path: Path) -> None:
    folder = bench_form(tmp_path / "a")
    tokens = [list(range(64)), list(range(128)), [7] * 192]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"input_tok_ids": ids}) + "\n" for ids in tokens))
    run = import_run(folder, Options(prompts=prompts))
    assert run.trace.block_size == 16
    assert [len(r.blocks) for r in run.trace] == [4, 4, 0]
    assert run.trace.requests[0].blocks == run.trace.requests[1].blocks
    assert run.provenance["shared_prefixes"].startswith("64 of 384 prompt tokens")
    assert "unknown" in import_run(folder, Options()).provenance["shared_prefixes"]
    with pytest.raises(RecordingError, match="not this recording's prompts: sha256 is"):
        import_run(bench_form(tmp_path / "b", meta={"dataset_hash": "0" * 64}), Options(prompts=prompts))
    prompts.write_text("".join(json.dumps({"input_tok_ids": ids[:-1]}) + "\n" for ids in tokens))
    with pytest.raises(RecordingError, match=r"prompts.jsonl:1: 63 tokens, but the request of .*requests.jsonl:1 has 64 input tokens"):
        import_run(folder, Options(prompts=prompts))
    prompts.write_text('{"input_tok_ids": [1]}\n')
    with pytest.raises(RecordingError, match=r"1 prompts, but .* has 3 requests"):
        import_run(folder, Options(prompts=prompts))


def results(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "results", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_writes_a_run_and_says_what_it_assumed(tmp_path: Path) -> None:
    folder = bench_form(tmp_path / "recording")
    done = results("import", folder, "--root", tmp_path / "runs", "--first", 2)
    assert (done.returncode, done.stderr) == (0, "")
    run_id = "20231114T221319-vllm-small-first2"
    assert read_run(tmp_path / "runs" / run_id).window == (0.0, 0.25)
    for words in (f"engine.run={run_id}", "prefix_caching: True: vLLM's default at 0.19, not read back", "not recorded: kv_tokens"):
        assert words in done.stdout
    cases = {
        ("import", folder, "--root", tmp_path / "runs", "--first", 2): "this run exists and is not overwritten",
        ("import", tmp_path / "nowhere"): "nowhere: no such file or folder",
        ("import", tmp_path): "no requests.csv or requests.jsonl in it",
        ("import", folder, "--hardware", "abacus"): "conf/hardware/ has no abacus.yaml",
        ("import", folder, "--kv-tokens", 0): "--kv-tokens must be >= 1",
    }
    for arguments, words in cases.items():
        failed = results(*arguments)
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
        assert words in failed.stderr
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [run_id]


def test_a_bench_scores_simulators_on_an_imported_run(tmp_path: Path, bench: Bench) -> None:
    """Without the KV capacity the matched track takes that of the memory model, and says so."""
    for name, options in (("unknown", Options(run_id="unknown")), ("known", Options(run_id="known", kv_tokens=9000))):
        write_run(bench.runs, import_run(bench_form(tmp_path / name), options))
        done = bench.run("engine=recorded", f"engine.run={name}", "simulator=[native]")
        assert done.returncode == 0, done.stdout + done.stderr
        capacities = {folder.name: read_run(folder).config["simulator"]["kv_capacity"] for folder in bench.runs.glob(f"{name}--*")}
        known = "the engine's" if name == "known" else "our memory model's"
        assert capacities == {f"{name}--native-shipped": "our memory model's", f"{name}--native-matched": known}
        assert "not available: native:calibrated" in done.stdout


def real(folder: str, **options: Any) -> tuple[Run, list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (MEASURED / folder / "requests.jsonl").read_text().splitlines()]
    return import_run(MEASURED / folder, Options(**options)), lines


@needs_real
@pytest.mark.parametrize("folder", REAL)
def test_a_real_run_keeps_the_laws(folder: str) -> None:
    run, lines = real(folder)
    model, tensor_parallel, longest = REAL[folder]
    assert (run.model, run.hardware, run.limits.tensor_parallel, run.limits.max_model_len) == (
        model, "rtx_pro_6000", tensor_parallel, longest
    )  # fmt: skip
    assert len(run.records) == len(run.trace) == 300
    assert [r.request_id for r in run.records] == list(range(300))
    assert [(r.input_tokens, r.output_tokens) for r in run.trace] == [(line["input_toks"], line["output_toks"]) for line in lines]
    for r in run.records:
        assert r.error is None and r.sent is not None and r.scheduled is not None and r.first_token is not None and r.finished is not None
        assert 0 <= r.arrival <= r.sent <= r.scheduled <= r.first_token <= r.finished
    assert run.records[0].arrival == 0
    assert run.limits.kv_tokens is None
    assert run.telemetry is not None
    most = run.telemetry[run.telemetry["name"] == "num_requests_running"]["value"].max()
    assert most == run.limits.max_num_seqs == 128
    clock = run.provenance["clock"]
    assert 0 <= clock["too_short_by_at_most_s"] < 5


@needs_real
@pytest.mark.parametrize("folder", REAL)
@pytest.mark.parametrize("part", [slice(None), slice(0, 100), slice(100, 300)])
def test_a_real_run_has_the_latencies_of_its_file(folder: str, part: slice, built: Built) -> None:
    """Mean and median TTFT and TPOT from the database equal those computed from the file alone, whole and in parts."""
    options = {0: {"first": 100}, 100: {"last": 200}}.get(part.start, {})
    run, lines = real(folder, **options)
    arrival, queued, first, last = (
        np.array([line[name] for line in lines]) for name in ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts")
    )
    ttft = (first - queued + ((queued - arrival) - (queued - arrival).min()))[part]
    tpot = ((last - first) / (np.array([line["output_toks"] for line in lines]) - 1))[part]
    rows = built(run).execute("SELECT metric, stat, value FROM run_metrics WHERE metric IN ('ttft', 'tpot')").fetchall()
    found = {(metric, stat): value for metric, stat, value in rows}
    for metric, values in (("ttft", ttft), ("tpot", tpot)):
        assert found[metric, "mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert found[metric, "p50"] == pytest.approx(np.median(values), abs=1e-6)
        assert found[metric, "p99"] == pytest.approx(np.quantile(values, 0.99), abs=1e-6)


def test_the_most_kv_held_is_that_of_looking_at_every_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    starts = np.sort(rng.uniform(0, 20, 200))
    ends = starts + rng.exponential(3, 200).round(2)  # some last no time
    rows = [f"{start:.6f},{start:.6f},{end:.6f},{10 + n},{5 + n % 7}" for n, (start, end) in enumerate(zip(starts, ends, strict=True))]
    run = import_run(plain(tmp_path / "many", rows, header="arrival,first_token,finished,input_tokens,output_tokens"), Options())
    whole = [(r.first_token or 0.0, r.finished or 0.0, r.input_tokens or 0, r.output_tokens or 0) for r in run.records]
    held = [
        sum(p + o * ((now - a) / (b - a) if b > a else 1.0) for a, b, p, o in whole if a <= now <= b)
        for now in (end for _, end, *_ in whole)
    ]
    assert run.provenance["kv_held"]["peak_tokens"] == pytest.approx(max(held), abs=1)
