"""`calibration=servingsim`: LLMServingSim's layer times of a model on a GPU, summed up to steps."""

import dataclasses
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from results.record import Run
from simulators.calibration.operation_tables.grid import OutsideTables
from simulators.calibration.servingsim import ServingSim
from simulators.errors import NotAvailable, SimulatorError
from tests.results.recordings.test_import_run import needs_real
from tests.simulators.calibration.made_runs import calibration
from tests.simulators.native.test_native import native
from tests.simulators.profiles import MODEL, make_measured

CLONE = os.environ.get("PLUMBLINE_LLMSERVINGSIM")
US = 1e-6
DENSE = {"layernorm": 1.0, "qkv_proj": 5.0, "rotary_emb": 1.0, "o_proj": 3.0, "gate_up_proj": 9.0, "act_fn": 1.0, "down_proj": 6.0}
TOKENS = (1, 16, 64, 256, 1024)


def attention(chunk: float, under: float, decodes: float, context: float) -> float:
    """us of a layer: linear on each axis, so that what is between the points is known exactly."""
    return 4.0 + 0.02 * chunk + 0.001 * under + 0.1 * decodes + 0.0005 * decodes * context


def made(clone: Path, *, tp: int = 1) -> Path:
    """A clone with one model on one GPU, its times invented: base + slope * tokens of each layer; attention on two grids of other steps."""
    folder = clone / "profiler" / "perf" / "TINY" / "org" / "tiny" / "bf16" / f"tp{tp}"
    folder.mkdir(parents=True)
    (clone / "configs" / "model" / "org").mkdir(parents=True, exist_ok=True)
    (clone / "configs" / "model" / "org" / "tiny.json").write_text(json.dumps(MODEL))
    (clone / "configs" / "model" / "org" / "other.json").write_text(json.dumps({**MODEL, "num_hidden_layers": 40}))
    (folder.parent / "meta.yaml").write_text("model: org/tiny\ngpu: a tiny GPU\nvllm_version: 0.19.0\n")
    layers = {**DENSE, "embedding": 2.0, "final_layernorm": 1.0}
    pd.DataFrame(
        [(n, t, base + 0.01 * base * t) for n, base in layers.items() for t in TOKENS], columns=["layer", "tokens", "time_us"]
    ).to_csv(folder / "dense.csv", index=False)
    heads = [(name, s, base + 0.1 * s) for name, base in (("lm_head", 20.0), ("sampler", 8.0)) for s in (1, 8, 64)]
    pd.DataFrame(heads, columns=["layer", "sequences", "time_us"]).to_csv(folder / "per_sequence.csv", index=False)
    points = {(c, u, d, k) for c in (0, 16, 64, 512) for u in (0, 16, 4096) for d in (0, 1, 8, 64) for k in (0, 16, 256, 4096)}
    points |= {(c, u, d, k) for c in (24, 100) for u in (0, 512, 4096) for d in (1, 8, 64) for k in (512, 4096)}
    rows = [(*p, attention(*p)) for p in sorted(points) if (p[0] or p[2]) and (p[2] > 0) == (p[3] > 0) and (p[0] or not p[1])]
    pd.DataFrame(rows, columns=["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]).to_csv(
        folder / "attention.csv", index=False
    )
    return clone


def composed(new: int, cached: int, batch: int, context: int) -> float:
    """s of a step of these invented times."""
    tokens, rows, layers = new + batch, batch + (new > 0), MODEL["num_hidden_layers"]
    assert isinstance(layers, int)
    in_a_layer = sum((2 if name == "layernorm" else 1) * base * (1 + 0.01 * tokens) for name, base in DENSE.items())
    whole = layers * (in_a_layer + attention(new, cached, batch, context)) + 3.0 * (1 + 0.01 * tokens) + 28.0 + 0.2 * rows
    return US * whole + 5e-4


def source(clone: Path | str, *words: str) -> ServingSim:
    found = calibration("calibration=servingsim", f"calibration.clone={clone}", "+calibration.devices.tiny=TINY", *words)
    assert isinstance(found, ServingSim)
    return found


@pytest.fixture
def measured() -> Run:
    return dataclasses.replace(make_measured([(0.05 * i, 40 + 7 * i, 20) for i in range(30)]), hardware="tiny")


@pytest.mark.parametrize(
    "step",
    [
        (0, 0, 1, 16),
        (0, 0, 5, 100),
        (0, 0, 64, 4000),
        (16, 0, 0, 0),
        (50, 300, 0, 0),
        (300, 0, 20, 1000),
        (80, 700, 30, 600),
        (24, 0, 8, 20),
    ],
)
def test_a_step_is_the_sum_of_its_layers(step: tuple[int, int, int, int], measured: Run, tmp_path: Path) -> None:
    new, cached, batch, context = step
    seconds = source(made(tmp_path)).seconds(measured)
    assert seconds(new=new, cached=cached, batch=batch, context=context) == pytest.approx(composed(*step), rel=1e-9)


def test_beyond_what_was_measured_there_is_no_answer(measured: Run, tmp_path: Path) -> None:
    seconds = source(made(tmp_path)).seconds(measured)
    for step in ({"batch": 65, "context": 100}, {"batch": 8, "context": 5000}, {"new": 600}, {"new": 8}):
        with pytest.raises(OutsideTables, match="was not measured around"):
            seconds(**step)


def test_the_profile_says_whose_times_it_has(measured: Run, tmp_path: Path) -> None:
    profile = source(made(tmp_path)).profile(measured, None)
    assert profile is not None
    assert profile.profile_id == "servingsim-tiny-tiny-tp1"
    assert "org/tiny (a tiny GPU, vLLM 0.19.0)" in profile.source
    assert profile.provenance["points_outside"] > 0
    simulated = native().simulate(measured, track="calibrated", profile=profile, scratch=tmp_path)
    assert all(r.error is None for r in simulated.records)


def test_what_it_has_no_times_for_is_refused_with_what_it_has(measured: Run, tmp_path: Path) -> None:
    clone = made(tmp_path / "clone")
    with pytest.raises(NotAvailable, match=r"no tables for vllm on h100; it has vllm on rtx_pro_6000, rtx_4090, tiny"):
        source(clone).profile(dataclasses.replace(measured, hardware="h100"), None)
    other = dataclasses.replace(measured, config={**measured.config, "model": {**MODEL, "hidden_size": 64}})
    with pytest.raises(NotAvailable, match=r"has no model of these sizes; it has org/tiny$"):
        source(clone).profile(other, None)
    two = dataclasses.replace(measured, limits=dataclasses.replace(measured.limits, tensor_parallel=2))
    with pytest.raises(NotAvailable, match=r"no all-reduces, and the engine of run .* has 2 devices; add calibration/collectives=aic"):
        source(clone).profile(two, None)
    with pytest.raises(SimulatorError, match=r"has no profiler/perf; set calibration.clone to a clone"):
        source(tmp_path / "nowhere").profile(measured, None)
    folder = clone / "profiler" / "perf" / "TINY" / "org" / "tiny" / "bf16"
    table = folder / "tp1" / "dense.csv"
    table.write_text(table.read_text().replace("time_us", "ms"))
    with pytest.raises(SimulatorError, match=r"dense.csv lacks the columns time_us; it has layer, tokens, ms"):
        source(clone).profile(measured, None)
    (folder / "tp1").rename(folder / "tp4")
    with pytest.raises(NotAvailable, match=r"tp1 is not there; .*bf16 has tp4"):
        source(clone).profile(measured, None)


@needs_real
@pytest.mark.skipif(CLONE is None, reason="PLUMBLINE_LLMSERVINGSIM must name a clone of github.com/casys-kaist/LLMServingSim")
def test_real_layer_times_give_the_recorded_latencies(tmp_path: Path) -> None:
    """Llama-3.1-8B on an RTX PRO 6000, not fitted to it. Measured: TTFT -2.9, TPOT -0.9, E2E -1.5 % (the first 130: -14, -1.1, -1.3 %)."""
    from tests.simulators.native.test_recordings import LLAMA, latencies, recorded

    run = recorded(LLAMA)
    profile = calibration("calibration=servingsim", f"calibration.clone={CLONE}").profile(run, None)
    simulated = native().simulate(run, track="calibrated", profile=profile, scratch=tmp_path)
    theirs, ours = latencies(run), latencies(simulated)
    for metric, most in {"ttft": 0.05, "tpot": 0.02, "e2e": 0.03}.items():
        assert abs(ours[metric].mean() / theirs[metric].mean() - 1) < most
