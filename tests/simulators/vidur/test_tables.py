"""A profile as Vidur's tables: what they must say about an engine whose step times follow a known law."""

import numpy as np
import pytest

from simulators.errors import SimulatorError
from simulators.foreign.step_points import residuals
from simulators.foreign.step_times import StepTimes, Surface
from simulators.vidur.profile_times import ProfileTimes
from simulators.vidur.tables import ProfileGrid, attention_rows, decode_attention, linear, mlp_rows
from tests.simulators.profiles import Law, make_profile, without

LAW = Law()
TIMES = StepTimes.fit("vidur", make_profile(LAW))
GRID = ProfileGrid(tokens=512, chunk=512, batch=16, context=1024, granularity=32)
LAYERS = 4


def vidur_step(tokens: int, context: int, batch: int, decode_context: int) -> float:
    """What the PyPI release computes from the tables, were its forest perfect: its own roundings, in s."""
    mlp = mlp_rows(TIMES, GRID, LAYERS).set_index("num_tokens")["time_stats.mlp_up_proj.median"]
    attention = attention_rows(TIMES, GRID, LAYERS, "pypi").set_index(["is_prefill", "batch_size", "prefill_chunk_size", "kv_cache_size"])
    total = mlp[-(-(tokens + batch) // 8) * 8]
    if tokens:
        key = (True, 1, -(-tokens // 32) * 32, -(-(context + tokens) // 32) * 32)
        total += attention.loc[key, "time_stats.attn_prefill.median"]
    if batch:
        total += attention.loc[(False, batch, 0, -(-decode_context // 32) * 32), "time_stats.attn_decode.median"]
    return float(total) * LAYERS / 1e3


@pytest.mark.parametrize(("tokens", "context"), [(17, 0), (40, 0), (100, 0), (333, 0), (512, 0), (256, 300), (100, 700)])
def test_a_prefill_costs_what_was_measured(tokens: int, context: int) -> None:
    assert vidur_step(tokens, context, 0, 0) == pytest.approx(LAW.prefill(tokens, context), rel=0.04)


@pytest.mark.parametrize(("batch", "context"), [(1, 100), (3, 100), (5, 333), (12, 700), (16, 1000)])
def test_a_decode_costs_what_was_measured(batch: int, context: int) -> None:
    assert vidur_step(0, 0, batch, context) == pytest.approx(LAW.decode(batch, context), rel=0.01)


@pytest.mark.parametrize(("tokens", "context", "batch"), [(64, 0, 4), (200, 0, 16), (256, 512, 8)])
def test_a_mixed_step_pays_its_fixed_cost_once(tokens: int, context: int, batch: int) -> None:
    assert vidur_step(tokens, context, batch, 256) == pytest.approx(LAW.mixed(tokens, context, batch, 256), rel=0.04)


def test_roundings_are_unbiased_over_all_lengths() -> None:
    lengths = range(33, 512)
    mlp = mlp_rows(TIMES, GRID, LAYERS).set_index("num_tokens")["time_stats.mlp_up_proj.median"] * LAYERS / 1e3
    linear = [float(mlp[-(-n // 8) * 8]) for n in lengths]
    assert np.mean(linear) == pytest.approx(np.mean([LAW.fixed + LAW.token * n for n in lengths]), rel=2e-3)


def test_git_keys_a_chunk_by_what_was_there_before_it() -> None:
    rows = attention_rows(TIMES, GRID, LAYERS, "git")
    first = rows[rows["is_prefill"] & (rows["prefill_chunk_size"] == 512) & (rows["kv_cache_size"] == 0)]
    assert float(first["time_stats.attn_prefill.median"].iloc[0]) * LAYERS / 1e3 == pytest.approx(LAW.attention * 512 * 256, rel=1e-6)


def test_every_lookup_that_vidur_can_make_has_a_row() -> None:
    rows = attention_rows(TIMES, GRID, LAYERS, "pypi")
    prefill, decode = rows[rows["is_prefill"]], rows[~rows["is_prefill"]]
    assert set(decode["batch_size"]) == set(range(1, 17))
    assert set(decode["kv_cache_size"]) == set(range(0, 1025, 32))
    held = set(zip(prefill["kv_cache_size"], prefill["prefill_chunk_size"], strict=True))
    assert held >= {(-(-(c + n) // 32) * 32, -(-n // 32) * 32) for n in range(2, 513, 5) for c in range(0, 512, 7)}
    assert not rows.isna().any().any()


def test_held_out_points_take_no_part_in_the_fit() -> None:
    profile = make_profile(LAW)
    profile.samples.loc[profile.samples["held_out"], "time"] = 99.0
    again = StepTimes.fit("vidur", profile)
    assert np.array_equal(linear(again, np.arange(1, 2000)), linear(TIMES, np.arange(1, 2000)))
    assert np.array_equal(decode_attention(again, np.arange(1, 64), 500), decode_attention(TIMES, np.arange(1, 64), 500))


def test_beyond_what_was_measured_the_last_slope_goes_on_and_is_counted() -> None:
    assert float(linear(TIMES, 4096)) == pytest.approx(LAW.fixed + LAW.token * 4092.5, rel=1e-6)
    inside = {"tokens": 512, "prefill_context": 512, "batch": 8, "context": 100.0}
    assert not TIMES.outside(**inside)  # type: ignore[arg-type]
    for axis, value in (("tokens", 4096), ("tokens", 7), ("prefill_context", 1537), ("batch", 65), ("context", 2049.0)):
        assert TIMES.outside(**{**inside, axis: value})  # type: ignore[arg-type]


def test_noise_never_makes_a_time_negative_or_a_context_cheap() -> None:
    counts, contexts = np.array([1.0, 1, 2, 2, 4]), np.array([64.0, 512, 64, 512, 64])
    surface = Surface.fit(counts, contexts, np.array([2e-3, 1e-3, 3e-3, 1e-3, 1e-4]), shortest=False)
    assert (surface.unit >= 0).all()
    assert (np.diff(surface.base) >= 0).all()
    assert (surface.at_zero([0, 1, 2, 4, 8, 1000]) >= 0).all()


def test_one_wild_point_changes_little_elsewhere() -> None:
    profile = make_profile(LAW)
    samples = profile.samples
    samples.loc[(samples["new_tokens"] == 64) & (samples["prefill_context"] == 1536), "time"] *= 20
    samples.loc[(samples["kind"] == "decode") & (samples["batch"] == 8) & (samples["context"] == 512), "time"] *= 5
    wild = StepTimes.fit("vidur", profile)
    for tokens, context in ((40, 0), (64, 0), (300, 0), (256, 1000)):
        steps = [float(linear(t, tokens) + t.prefill_attention(context, tokens)) for t in (wild, TIMES)]
        assert steps[0] == pytest.approx(steps[1], rel=0.02)
    for batch, context in ((1, 100), (8, 512), (12, 300), (30, 1500)):
        assert float(decode_attention(wild, batch, context)) == pytest.approx(float(decode_attention(TIMES, batch, context)), rel=0.02)


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_a_profile_without_a_kind_of_point_is_refused(kind: str) -> None:
    profile = without(make_profile(LAW), kind)
    with pytest.raises(SimulatorError, match=f"vidur: profile law has no {kind} points"):
        StepTimes.fit("vidur", profile)


def test_residuals_are_relative_to_what_was_measured() -> None:
    points = ProfileTimes.of(make_profile(LAW)).points
    result = residuals(points, (points["time"] * 1.1).tolist())
    assert set(result) == {"held_out", "fitted"}
    assert set(result["held_out"]) == {"prefill", "decode", "mixed"}
    assert result["held_out"]["mixed"] == pytest.approx({"n": 3, "bias": 0.1, "median": 0.1, "p90": 0.1})


def test_every_point_of_the_profile_can_be_asked_for() -> None:
    calibration = ProfileTimes.of(make_profile(LAW))
    grid = calibration.widen(ProfileGrid(tokens=8, chunk=32, batch=1, context=64, granularity=32))
    assert len(calibration.probes()) == len(calibration.points)
    for probe in calibration.probes():
        assert probe["new_tokens"] + probe["batch"] <= grid.tokens
        assert probe["new_tokens"] <= grid.chunk
        assert probe["batch"] <= grid.batch
        assert max(probe["prefill_context"] + probe["new_tokens"], probe["context"] + 1) <= grid.context
