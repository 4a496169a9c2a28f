"""Step times with stairs: an engine's own steps, whose times jump where a graph or a tile is full."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.profile import Profile
from results.record import EngineLimits
from simulators.errors import SimulatorError
from simulators.native.latency.measured import MeasuredStepTime
from simulators.native.latency.profile_work import works_of
from simulators.native.latency.stairs import EVERY_STEP, LEAST, StairsStepTime, fitted_law, profiled
from simulators.native.latency.step_law import WORK
from tests.simulators.native.latency.test_step_time import batch

DATA = Path(os.environ.get("PLUMBLINE_DATA", Path(__file__).parents[4] / ".." / "shared" / "data"))
A40 = DATA / "recordings" / "steps" / "a40_qwen2.5_7b_tp1.csv.gz"
KV_TOKENS = 491_200  # of that server: run.yaml of G1_r1_rep1


def truth(new: float, prompts: int, decodes: float, context: float) -> float:
    """Graphs of 8, 16, ... sequences, the one of 24 faster than the one of 16; tiles of 128 tokens; decodes dearer beside a prompt."""
    if new == 0:
        graph = 8 * math.ceil(decodes / 8)
        return 0.030 + 2e-5 * graph - 0.002 * (17 <= decodes <= 24) + 1e-7 * decodes * context
    tokens = new + decodes
    return 0.031 + 0.012 * math.ceil(tokens / 128) + 1e-4 * prompts + 2e-5 * decodes + 4e-7 * decodes * context


def steps(count: int = 4000, *, noise: float = 0.0, seed: int = 0, provenance: Mapping[str, Any] | None = None) -> Profile:
    """A log of so many steps, every fourth of them with prompts, every tenth held out."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        prompts = int(rng.integers(1, 4)) if i % 4 == 0 else 0
        new, decodes = prompts * int(rng.integers(10, 400)), int(rng.integers(1, 100))
        context = float(rng.integers(100, 800))
        time = truth(new, prompts, decodes, context) * float(rng.lognormal(0, noise))
        kind = "mixed" if prompts else "decode"
        rows.append((kind, new, 0, decodes, context, time, 0, i % 10 == 0, prompts))
    names = ["kind", "new_tokens", "prefill_context", "batch", "context", "time", "repeat", "held_out", "prompts"]
    return Profile(
        profile_id="log",
        system="vllm",
        version=None,
        model={},
        hardware="a40",
        limits=EngineLimits(),
        samples=pd.DataFrame(rows, columns=names),
        source="made up",
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=1.0,
        provenance={EVERY_STEP: True} if provenance is None else provenance,
    )


@pytest.mark.parametrize("decodes", [3, 8, 9, 16, 17, 24, 25, 90])
def test_decodes_wait_for_their_graph(decodes: int) -> None:
    assert StairsStepTime(steps()).seconds(batch(*[(1, 500)] * decodes)) == pytest.approx(truth(0, 0, decodes, 500), rel=1e-3)


@pytest.mark.parametrize(("new", "decodes"), [(100, 20), (108, 20), (109, 20), (236, 20), (237, 20), (700, 3)])
def test_prompts_fill_tiles(new: int, decodes: int) -> None:
    """A tile that begins costs what a full one does, and a decode beside a prompt more than alone."""
    made = batch((new, 0), *[(1, 500)] * decodes)
    assert StairsStepTime(steps()).seconds(made) == pytest.approx(truth(new, 1, decodes, 500), rel=5e-3)


def test_noise_is_told_by_steps_held_out() -> None:
    found = StairsStepTime(steps(noise=0.02)).describe()["residuals"]
    assert found["held_out"]["points"] == 400 and found["fitted"]["points"] == 3600
    assert 0.01 < found["held_out"]["median_abs_error"] < 0.02 and abs(found["held_out"]["mean_error"]) < 0.005


def test_a_stair_of_few_steps_lies_between_its_neighbours() -> None:
    samples = steps().samples
    between = (samples["kind"] == "decode") & samples["batch"].between(41, 48)
    few = samples[~between | (between.cumsum() < LEAST)]
    law = fitted_law(works_of(few, False), few["time"].to_numpy())
    seconds = {n: law.seconds([n, n, n, 0, 0, 0, 0, 0, 0, 0]) for n in (40, 44, 56)}
    assert seconds[40] < seconds[44] < seconds[56]


def test_beyond_the_log_steps_go_on_growing() -> None:
    model = StairsStepTime(steps())
    times = [model.seconds(batch(*[(1, 500)] * n)) for n in (100, 200, 400)] + [model.seconds(batch((n, 0))) for n in (2000, 4000, 8000)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(truth(8000, 1, 0, 0), rel=0.1)  # ten times the largest step of the log
    described = model.describe()
    assert described["steps"] == 6 and described["steps_beyond_profile"] == 5 and described["step_time"] == "stairs"


def test_which_profiles_have_stairs() -> None:
    made = steps()
    assert isinstance(profiled(made), StairsStepTime)
    probed = steps(provenance={})
    kinds = np.where(probed.samples["batch"] == 1, "prefill", probed.samples["kind"])
    assert isinstance(profiled(dataclasses.replace(probed, samples=probed.samples.assign(kind=kinds))), MeasuredStepTime)


def test_a_log_without_prompts_is_refused() -> None:
    made = steps()
    made = dataclasses.replace(made, samples=made.samples[made.samples["kind"] == "decode"])
    with pytest.raises(SimulatorError, match="profile log: no 5 steps of one size among its prompt steps"):
        StairsStepTime(made)


def test_several_prompts_in_a_step_have_fewer_pairs_than_one() -> None:
    frame = pd.DataFrame({"new_tokens": [300, 300], "prefill_context": [0, 0], "batch": [2, 2], "context": [50, 50], "prompts": [1, 3]})
    one, three = (dict(zip(WORK, work, strict=True)) for work in works_of(frame, False).tolist())
    assert one["prefill_pairs"] == 300 * 301 / 2 and three["prefill_pairs"] == 3 * 100 * 101 / 2
    assert (one["sequences"], three["sequences"]) == (3, 5) and one["mixed_decodes"] == 2 and one["mixed_context"] == 100


@pytest.mark.skipif(not A40.is_file(), reason=f"{A40} is not here: the step log of an A40")
@pytest.mark.parametrize("late", [True, False])
def test_steps_of_an_a40_that_it_was_not_fitted_to(late: bool) -> None:
    """76,302 steps of a real server: fitted to one part of its time, within 2 % (median) and 6 % (p90) on the other."""
    log = pd.read_csv(A40)
    cut = log["ts"].quantile(0.6)
    held_out = (log["ts"] >= cut) == late
    context = (log["kv_usage"] * KV_TOKENS - log["n_ctx_toks"]).clip(lower=0) / log["n_gen_reqs"].clip(lower=1)
    columns = {
        "new_tokens": log["n_ctx_toks"],
        "prefill_context": 0,
        "batch": log["n_gen_reqs"],
        "context": context,
        "prompts": log["n_ctx_reqs"],
    }
    works, seconds = works_of(pd.DataFrame(columns), False), log["exec_s"].to_numpy()
    law = fitted_law(works[~held_out], seconds[~held_out])
    size = np.abs(np.array([law.seconds(work) for work in works[held_out].tolist()]) / seconds[held_out] - 1)
    assert np.median(size) <= 0.02 and np.quantile(size, 0.9) <= 0.06
    prompts = log.loc[held_out, "n_ctx_reqs"].to_numpy() > 0
    assert np.median(size[prompts]) <= 0.02 and np.quantile(size[prompts], 0.9) <= 0.06
