"""LLMServingSim: what cannot be is one line before it starts; its file formats; the real program, where a built clone is named."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.environment import ensure
from results.record import EngineLimits, Run
from simulators.conformance.scene import ON_H100, Scene
from simulators.errors import NotAvailable, SimulatorError
from simulators.llmservingsim.clone import BUILT, MAIN, SOURCES, Clone
from simulators.llmservingsim.files import ServingLimits, check_capacity, read_records, room, write_requests
from tests.simulators.foreign.copies import configured
from tests.simulators.profiles import make_measured
from workloads.trace import Request, Trace

CLONE = os.environ.get("PLUMBLINE_LLMSERVINGSIM")
LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA |= {"vocab_size": 128256}
QWEN = {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8}
QWEN |= {"vocab_size": 151936, "head_dim": 128}
REQUESTS = ((0.05, 200, 4), (0.06, 40, 3), (0.3, 16, 1))


def on_rtx(requests: Sequence[tuple[float, int, int]] = REQUESTS, **limits: Any) -> Run:
    """A measured run of Llama 3.1 8B on an RTX PRO 6000."""
    scene = Scene(requests=tuple(requests), limits=dataclasses.replace(ON_H100, **limits), model="llama_3_1_8b")
    measured = scene.measured()
    hardware = {**measured.config["hardware"], "memory_gb": 96, "memory_bandwidth_gb_s": 1597}
    return dataclasses.replace(measured, hardware="rtx_pro_6000", config={**measured.config, "hardware": hardware})


def simulate(measured: Run, scratch: Path, *, track: Any = "matched", **changes: Any) -> Run:
    scratch.mkdir(exist_ok=True)
    run: Run = configured("llmservingsim", **changes).simulate(measured, track=track, profile=None, scratch=scratch)
    return run


def touched(folder: Path, *files: Path) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def made_clone(folder: Path) -> Path:
    """All that a clone is asked for, and a model of Llama's sizes with a profile on one device; nothing of it would run."""
    touched(folder, MAIN, *SOURCES.values(), *BUILT.values(), Path("configs/model/some/llama.json"))
    (folder / "configs/model/some/llama.json").write_text(json.dumps(LLAMA))
    (folder / "profiler/perf/RTXPRO6000/some/llama/bf16/tp1").mkdir(parents=True)
    return folder


def source_only(folder: Path) -> Path:
    return touched(folder, MAIN)


def unbuilt(folder: Path) -> Path:
    return touched(folder, MAIN, *SOURCES.values())


def half_built(folder: Path) -> Path:
    return touched(folder, MAIN, *SOURCES.values(), BUILT["ASTRA-Sim"])


@pytest.mark.parametrize(
    ("clone", "message"),
    [
        (lambda _: None, r"no clone is named; clone https://github.com/casys-kaist/LLMServingSim with --recurse-submodules"),
        (lambda folder: folder / "nowhere", r"no folder .*/nowhere; clone .* or PLUMBLINE_LLMSERVINGSIM, to its folder"),
        (lambda folder: folder, r"is no clone of LLMServingSim with its files \(serving/__main__.py is missing\)"),
        (source_only, r"lacks its submodules astra-sim, astra-sim/extern/graph_frontend/chakra; `git submodule update"),
        (unbuilt, r"was never built: no ASTRA-Sim \(.*/AnalyticalAstra\), no Chakra's protobuf module \(.*\); its scripts/compile.sh"),
        (half_built, r"was never built: no Chakra's protobuf module"),
    ],
)
def test_what_of_a_clone_is_missing_is_one_line(clone: Callable[[Path], Path | None], message: str, tmp_path: Path) -> None:
    folder = clone(tmp_path)
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(on_rtx(), tmp_path / "scratch", checkout=None if folder is None else str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (make_measured(REQUESTS), r"it has no layer times of cpu-test, only of rtx_pro_6000, rtx_4090"),
        (
            on_rtx(tensor_parallel=2),
            r"no layer times of some/llama on rtx_pro_6000 as bf16/tp2; .*/RTXPRO6000 has some/llama/bf16/tp1",
        ),
        (dataclasses.replace(on_rtx(), hardware="rtx_4090"), r"on rtx_4090 as bf16/tp1; profiler/perf/RTX4090 has nothing"),
        (
            dataclasses.replace(on_rtx(), config={**on_rtx().config, "model": QWEN}),
            r"its clone \(configs/model\) has no model of these sizes \(5120 hidden_size, 25600 intermediate_size, 64 num_hidden_layers\)",
        ),
        (
            dataclasses.replace(on_rtx(), config={**on_rtx().config, "model": {**LLAMA, "quantization_config": {"quant_method": "fp8"}}}),
            r"its layer times are of weights in 16 bits",
        ),
        (on_rtx(data_parallel=2), r"is of an engine with 2 data-parallel replicas, and it is set up for one"),
        (dataclasses.replace(on_rtx(), limits=EngineLimits()), r"does not say the engine's max_num_seqs, max_num_batched_tokens"),
    ],
)
def test_what_it_cannot_be_asked_is_not_available(measured: Run, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(measured, tmp_path / "scratch", checkout=str(made_clone(tmp_path / "clone")))
    assert "\n" not in str(error.value) and not (tmp_path / "scratch" / "log").exists()


def test_a_request_that_never_fits_is_named_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"request 0 of 200 \+ 4 tokens does not fit into 192 tokens of KV cache"):
        simulate(on_rtx(kv_tokens=200), tmp_path / "scratch", checkout=str(made_clone(tmp_path / "clone")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"limit": 0}, r"limit must be > 0"), ({"link": 0}, r"link must be > 0"), ({"link_latency": -1}, r"link_latency must be >= 0 ns")],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        configured("llmservingsim", **changes)


@pytest.mark.parametrize(
    ("sizes", "parallel", "memory", "blocks"),
    # of logs that its authors publish (bench/examples, 5daddb2): GiB of a device that may be used, and what it made of them
    [(LLAMA, 1, 0.9 * 96, 36578), (QWEN, 2, 0.9 * 96, 28614), (LLAMA, 1, 0.833919 * 24, 2588)],
)
def test_memory_holds_the_blocks_that_its_own_logs_say(sizes: dict[str, int], parallel: int, memory: float, blocks: int) -> None:
    assert room(sizes, parallel, blocks - 1, 16) < memory < room(sizes, parallel, blocks + 1, 16)


def test_other_blocks_than_the_engine_had_are_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("  • Instance [0] : 585248 tokens / 36578 blocks (71.44 GiB/rank at util 0.90)\n")
    limits = ServingLimits(block_size=16, batch=8, tokens=64, chunked_prefill=True, prefix_caching=True, blocks=36578)
    assert check_capacity(log, limits) == check_capacity(log, None) == 36578
    with pytest.raises(SimulatorError, match="it was to have 36579 KV blocks, and had 36578"):
        check_capacity(log, dataclasses.replace(limits, blocks=36579))
    log.write_text("nothing of the kind\n")
    with pytest.raises(SimulatorError, match="does not say how many KV blocks"):
        check_capacity(log, limits)


def test_requests_keep_their_order_their_moment_and_what_they_share(tmp_path: Path) -> None:
    asked = [(300, (7, 8, 9)), (260, (7, 8, 4)), (100, ())]
    requests = (Request(request_id=i, arrival=0.1 * i, input_tokens=n, output_tokens=4, blocks=b) for i, (n, b) in enumerate(asked))
    trace = Trace(name="made", requests=tuple(requests), block_size=64)
    write_requests(trace, True, tmp_path / "requests.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert [(row["input_toks"], row["output_toks"], row["arrival_time_ns"]) for row in rows] == [
        (300, 4, 0), (260, 4, 100_000_000), (100, 4, 200_000_000)
    ]  # fmt: skip
    first, second, third = (row["input_tok_ids"] for row in rows)
    assert [len(ids) for ids in (first, second, third)] == [300, 260, 100] and len({*first}) == 300
    assert first[:128] == second[:128] and not {*first[128:]} & {*second[128:]} and not {*third} & {*first, *second}
    write_requests(trace, False, tmp_path / "bare.jsonl")
    assert "input_tok_ids" not in (tmp_path / "bare.jsonl").read_text()


HEAD = "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
ROWS = [
    '0,1,m,40,3,60000000,90000000,30000000,0,10000000,10000000,"[10000000, 10000000]"\n',
    "0,0,m,10,1,50000000,70000000,20000000,0,20000000,0,[]\n",
]


def test_its_rows_become_records_in_the_traces_order(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text(HEAD + "".join(ROWS))
    trace = make_measured([(0.05, 10, 1), (0.06, 40, 3)], first_id=7).trace_as_sent()
    first, second = read_records(tmp_path / "out.csv", trace, tmp_path / "log")
    assert (first.request_id, second.request_id) == (7, 8)
    assert first.first_token == first.finished == pytest.approx(0.07)
    assert second.token_times == pytest.approx((0.07, 0.08, 0.09)) and second.scheduled is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], r"2 requests asked, 1 rows came out: 1 missing \(ids 0\)"),
        ([ROWS[0], ROWS[1].replace("m,10", "m,11")], r"request 0 of 10 \+ 1 tokens was simulated as 11 \+ 1;"),
        ([ROWS[0].replace("[10000000, 10000000]", "[10000000]"), ROWS[1]], r"request 1 has a TTFT of .* and 2 token times for 3 tokens"),
        ([ROWS[0], ROWS[1].replace(",20000000,0,[]", ",25000000,0,[]")], r"request 0 has a TTFT of 0.025 s, an E2E of 0.02 s"),
        (["0,zero,m,10,1,5,7,2,0,2,0,[]\n"], r"its output cannot be read"),
    ],
)
def test_output_that_cannot_be_is_one_line(rows: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text(HEAD + "".join(rows))
    (tmp_path / "log").write_text("its last words\n")
    trace = make_measured([(0.05, 10, 1), (0.06, 40, 3)]).trace_as_sent()
    with pytest.raises(SimulatorError, match=message) as error:
        read_records(tmp_path / "out.csv", trace, tmp_path / "log")
    assert "\n" not in str(error.value)


@pytest.fixture
def clone() -> Clone:
    """The clone that is named, built; or a skip that says what is missing."""
    try:
        found = Clone.at(CLONE)
    except NotAvailable as error:
        pytest.skip(str(error))
    ensure("llmservingsim")
    return found


@pytest.mark.e2e
def test_every_request_comes_back_as_asked_with_the_engines_blocks(clone: Clone, tmp_path: Path) -> None:
    measured = on_rtx(kv_tokens=64_000, max_num_batched_tokens=128)
    run = simulate(measured, tmp_path / "one", checkout=str(clone.folder))
    assert [(r.request_id, r.input_tokens, r.output_tokens) for r in run.records] == [(i, n, m) for i, (_, n, m) in enumerate(REQUESTS)]
    for record in run.records:
        assert record.sent is not None and record.token_times is not None and record.output_tokens == len(record.token_times)
        assert record.sent < (record.first_token or 0) <= (record.finished or 0)
    settings = run.config["simulator"]
    assert (settings["kv_blocks"], settings["kv_capacity"]) == (4000, "the engine's")
    assert run.version and run.version.startswith("git-")


@pytest.mark.e2e
def test_it_gives_what_its_authors_publish_to_the_nanosecond(clone: Clone, tmp_path: Path) -> None:
    """Their example of ten requests, asked through the adapter: arrivals, lengths and limits as theirs."""
    rows = [json.loads(line) for line in (clone.folder / "workloads/example_trace.jsonl").read_text().splitlines()]
    published = clone.folder / "outputs/example_single_run.csv"
    measured = on_rtx([(row["arrival_time_ns"] * 1e-9, row["input_toks"], row["output_toks"]) for row in rows], prefix_caching=True)
    run = simulate(measured, tmp_path / "example", track="shipped", checkout=str(clone.folder), limit=900)
    expected = read_records(published, measured.trace_as_sent(), tmp_path / "log")
    assert [r.token_times for r in run.records] == [pytest.approx(r.token_times, abs=2e-9) for r in expected]


@pytest.mark.skipif(CLONE is None, reason="PLUMBLINE_LLMSERVINGSIM must name a clone of github.com/casys-kaist/LLMServingSim")
def test_its_published_outputs_can_be_read(tmp_path: Path) -> None:
    folder = Path(CLONE or "") / "bench/examples/RTXPRO6000/Llama-3.1-8B"
    rows = [json.loads(line) for line in (folder / "vllm/requests.jsonl").read_text().splitlines()]
    measured = on_rtx(sorted((0.1 * i, row["input_toks"], row["output_toks"]) for i, row in enumerate(rows)))
    records = read_records(folder / "outputs/sim.csv", measured.trace_as_sent(), tmp_path / "log")
    assert len(records) == 300 and all(r.token_times is not None and len(r.token_times) == r.output_tokens for r in records)
