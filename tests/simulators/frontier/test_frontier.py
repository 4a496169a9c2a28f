"""Frontier: what cannot be is one line before it starts; what goes in and comes out, by laws and made files."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.record import EngineLimits, Run
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.step_times import StepTimes
from simulators.frontier.files import block_ids
from simulators.frontier.records import read_output, records, token_times
from simulators.frontier.tables import StepGrid, attention_rows, linear_rows, rounded_linear
from tests.simulators.foreign.copies import configured
from tests.simulators.frontier.made_clone import made_clone, without_column
from tests.simulators.profiles import MODEL, Law, make_measured, make_profile, without
from workloads.trace import Request, Trace

LONE = [(0.5, 100, 10)]
PROFILE = Path("data/profiling/compute/h800/tiny")


def on_h100(measured: Run) -> Run:
    return dataclasses.replace(measured, hardware="h100")


def simulate(measured: Run, scratch: Path, *, track: Any = "matched", profile: Any = None, **changes: Any) -> Run:
    scratch.mkdir(exist_ok=True)
    run: Run = configured("frontier", **changes).simulate(measured, track=track, profile=profile, scratch=scratch)
    return run


def unwhole(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change to the folder of a clone's profile."""
    return lambda clone: change(clone / PROFILE)


def sizes(**changed: Any) -> Callable[[Path], object]:
    model = {**MODEL, "hidden_act": "silu", **changed}
    return lambda clone: (clone / "data/config/models/tiny.json").write_text(json.dumps(model))


@pytest.mark.parametrize(
    ("clone", "message"),
    [
        (lambda _: None, r"no clone is named; clone https://github.com/NetX-lab/Frontier and set simulators.frontier.checkout"),
        (lambda folder: str(folder / "nowhere"), r"no folder .*/nowhere; clone .* or PLUMBLINE_FRONTIER, to its folder"),
        (str, r"is no clone of Frontier with its files \(frontier/main.py is missing\)"),
    ],
)
def test_without_a_clone_it_is_not_available(clone: Callable[[Path], str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(make_measured(LONE), tmp_path / "scratch", track="calibrated", profile=make_profile(Law()), checkout=clone(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sizes(vocab_size=7), r"its clone knows no model of these sizes \(\d+ num_hidden_layers, \d+ hidden_size\)"),
        (sizes(quantization_config={"quant_method": "fp8"}), r"its clone knows no model of these sizes"),
        (
            unwhole(lambda folder: (folder / "linear_op.csv").unlink()),
            r"no whole profile .* or h800 \(.*h800/tiny: no linear_op.csv\)",
        ),
        (
            unwhole(lambda folder: without_column(folder / "attention.csv", "model_architecture_profile")),
            r"h800/tiny: attention.csv lacks its column model_architecture_profile",
        ),
        (
            unwhole(lambda folder: without_column(folder / "attention.csv", "is_true_mixed_batch")),
            r"no steps of prompts and decodes together",
        ),
    ],
)
def test_a_profile_that_is_not_whole_is_not_available_by_its_part(change: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    clone = made_clone(tmp_path / "clone")
    change(clone)
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(on_h100(make_measured(LONE)), tmp_path / "scratch", checkout=str(clone))
    assert "\n" not in str(error.value)


LIMITS = make_measured(LONE).limits


@pytest.mark.parametrize(
    ("requests", "limits", "message"),
    [
        (LONE, dataclasses.replace(LIMITS, tensor_parallel=2), r"linear_op.csv has no rows of 2 devices"),
        (LONE, dataclasses.replace(LIMITS, block_size=32), r"no rows of KV blocks of 32 tokens"),
        ([(0.5, 3000, 10)], LIMITS, r"attention.csv ends at 2048 cached tokens, 3010 are needed"),
        (
            [(0.5, 900, 10)],
            dataclasses.replace(LIMITS, max_num_batched_tokens=1024),
            r"linear_op.csv ends at 515 tokens of a step",
        ),
    ],
)
def test_a_profile_is_not_used_beyond_its_ends(
    requests: list[tuple[float, int, int]], limits: EngineLimits, message: str, tmp_path: Path
) -> None:
    measured = on_h100(make_measured(requests, limits=limits))
    with pytest.raises(NotAvailable, match=message):
        simulate(measured, tmp_path / "scratch", checkout=str(made_clone(tmp_path / "clone")))


@pytest.mark.parametrize(
    ("measured", "settings", "message"),
    [
        (make_measured(LONE), {}, r"no profiles of cpu-test, only of a40, a100, h100, .*the calibrated track needs none"),
        (make_measured(LONE), {"track": "calibrated"}, r"calibrated track of run vllm-law-0 needs a profile"),
        (make_measured(LONE), {"track": "calibrated", "profile": without(make_profile(Law()), "decode")}, r"has no decode points"),
        (make_measured(LONE, limits=EngineLimits()), {}, r"does not say the engine's kv_tokens, max_num_seqs, max_num_batched_tokens"),
        (on_h100(make_measured(LONE)), {"topology": "pd"}, r"topology=pd needs the link .* interconnect_gb_s"),
        (on_h100(make_measured([(0.5, 4090, 10)])), {}, r"request 0 of 4090 \+ 10 tokens is longer than the model's 4096"),
    ],
)
def test_what_it_cannot_be_set_to_is_one_line_before_it_starts(
    measured: Run, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    clone = made_clone(tmp_path / "clone", context=8192)
    with pytest.raises(SimulatorError, match=message) as error:
        simulate(measured, tmp_path / "scratch", checkout=str(clone), **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "scratch" / "log").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topology": "ring"}, r"topology must be one of colocated, pd, got 'ring'"),
        ({"routing": "luck"}, r"routing must be one of simulation, uniform_random"),
        ({"frontend": "all"}, r"frontend must be one of none, offset"),
        ({"n_estimators": 0}, r"n_estimators must be >= 1, got 0"),
        ({"decode_instances": 0}, r"decode_instances must be >= 1"),
        ({"limit": 0}, r"limit must be > 0 s"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        configured("frontier", **changes)


def test_its_tables_add_up_to_the_law_and_never_below_nothing() -> None:
    law = Law()
    times = StepTimes.fit("frontier", make_profile(law))
    grid = StepGrid(step=512, batch=64, context=2048, granularity=32)
    rows = attention_rows(times, grid, 16)
    timed = rows.filter(like="time_stats").to_numpy()
    assert (timed >= 0).all() and np.isfinite(timed).all()
    linear = seconds(linear_rows(times, grid), "mlp_up_proj", "num_tokens")
    decodes = seconds(rows[~rows["is_prefill"]], "attn_decode", "batch_size", "kv_cache_size")
    prompts = seconds(rows[rows["prefill_chunk_size"] > 0], "attn_prefill", "prefill_chunk_size", "kv_cache_size")
    beside = seconds(rows[rows["is_true_mixed_batch"]], "attn_decode", "decode_batch_size", "decode_avg_kv_cache_size")
    for batch, context in ((8, 512), (16, 1024), (64, 2048)):
        assert linear[batch,] + decodes[batch, context] == pytest.approx(law.decode(batch, context), rel=0.02)
    for tokens in (64, 256, 512):
        assert linear[tokens,] + prompts[tokens, 0] == pytest.approx(law.prefill(tokens), rel=0.02)
    assert beside == decodes  # a prompt changes nothing for them
    assert rounded_linear(times, 9) == rounded_linear(times, 16)  # as Frontier rounds


def seconds(rows: pd.DataFrame, operation: str, *keys: str) -> dict[tuple[int, ...], float]:
    """An operation's times, s by what it is looked up by."""
    places = zip(*(rows[key].astype(int) for key in keys), strict=True)
    return dict(zip(places, rows[f"time_stats.{operation}.median"] / 1e3, strict=True))


def asked(*prompts: tuple[int, tuple[int, ...]]) -> Trace:
    made = (Request(request_id=i, arrival=0.1 * i, input_tokens=n, output_tokens=4, blocks=blocks) for i, (n, blocks) in enumerate(prompts))
    return Trace(name="made", requests=tuple(made), block_size=64)


@pytest.mark.parametrize("block_size", [16, 64, 128])
def test_prompts_share_the_blocks_that_they_share_and_no_others(block_size: int) -> None:
    first, second, other = block_ids(asked((300, (7, 8, 9)), (260, (7, 8, 4)), (128, (5, 6))), block_size)
    alike = [a == b for a, b in zip(first, second, strict=False)]
    assert alike == [(place + 1) * block_size <= 128 for place in range(len(alike))]
    assert not {*first, *second} & {*other}
    assert len(first) == -(-300 // block_size) and len({*first}) == len(first)


COLUMNS = "Request Id,request_e2e_time,request_first_scheduling_delay,ttft,request_num_prefill_tokens,request_num_decode_tokens"
COLUMNS += ",request_total_preemption_count\n"
ROWS = ["0,30,0,10,10,3,0\n", "1,40,5,20,12,2,0\n"]
STEPS = [  # end, requests, tokens of each
    (0.51, ["0"], [10]),
    (0.52, ["0", "1"], [1, 12]),
    (0.53, ["0"], [1]),
    (0.54, ["1"], [1]),
]


def write_output(folder: Path, rows: list[str]) -> None:
    folder.mkdir()
    (folder / "request_metrics.csv").write_text(COLUMNS + "".join(rows))
    names = ("stage_end_ts", "request_ids", "request_num_tokens")
    lines = [dict(zip(names, step, strict=True)) for step in STEPS]
    (folder / "frontier_stage_batch_ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder.parent / "log").write_text("its last words\n")


TWO = tuple(make_measured([(0.5, 10, 3), (0.5, 12, 2)]).trace_as_sent())


def test_a_request_has_the_ends_of_its_last_steps(tmp_path: Path) -> None:
    write_output(tmp_path / "out", ROWS)
    outcomes, steps = read_output(tmp_path / "out", TWO, tmp_path / "log")
    assert token_times(steps, TWO) == [[0.51, 0.52, 0.53], [0.52, 0.54]]
    first, second = records(TWO, outcomes, steps, apart=False, offset=0.0, log=tmp_path / "log")
    assert first.token_times == pytest.approx((0.51, 0.52, 0.53)) and second.token_times == pytest.approx((0.52, 0.54))
    assert (first.cached_tokens, second.cached_tokens) == (0, 0)
    assert second.scheduled == pytest.approx(0.505) and second.finished == pytest.approx(0.54)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], r"2 requests asked, 1 rows came out: 1 missing \(ids 1\)"),
        ([ROWS[0], "1,,,,12,2,\n"], r"request 1 never ended; it loses a request that it preempts after its first token"),
        ([ROWS[0], "1,40,5,20,12,3,0\n"], r"request 1 of 12 \+ 2 tokens was simulated as 12 \+ 3"),
        ([ROWS[0], "1,40,5,25,12,2,0\n"], r"request 1 has delay .* which contradict each other"),
        (["Zero,1,2,3,4,5,6\n"], r"its output in .* cannot be read: ValueError"),
    ],
)
def test_output_that_cannot_be_is_one_line(rows: list[str], message: str, tmp_path: Path) -> None:
    write_output(tmp_path / "out", rows)
    with pytest.raises(SimulatorError, match=message) as error:
        records(TWO, *read_output(tmp_path / "out", TWO, tmp_path / "log"), apart=False, offset=0.0, log=tmp_path / "log")
    assert "\n" not in str(error.value)


def test_a_grid_reaches_all_steps_of_a_trace() -> None:
    trace = asked((300, ()), (1000, ()))
    grid = StepGrid.over(trace, budget=500, batch=64, rows=8)
    assert (grid.step, grid.batch) == (504, 2)
    assert grid.context >= 1004 and grid.context % grid.granularity == 0
    assert isinstance(attention_rows(StepTimes.fit("frontier", make_profile(Law())), grid, 16), pd.DataFrame)
