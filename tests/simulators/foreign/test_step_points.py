"""Step times read off a profile: exact where it is smooth, undisturbed by wild points, and a whole prompt as the sum of its chunks."""

import dataclasses

import numpy as np
import pytest

from simulators.foreign.robust_fit import robust_fit
from simulators.foreign.step_points import chunk_time, decode_time, fit, prompt_time, whole_points, wild, with_context
from tests.simulators.profiles import Law, make_profile

LAW = Law()


def test_a_smooth_law_is_read_off_as_it_is() -> None:
    times = fit("x", make_profile(LAW))
    for tokens in (16, 64, 512):
        assert float(chunk_time(times, tokens)) == pytest.approx(LAW.prefill(tokens), rel=0.01)
    for batch in (1, 8, 64):
        assert float(decode_time(times, batch, 300)) == pytest.approx(LAW.decode(batch, 300), rel=0.01)
    assert not wild(make_profile(LAW).points()).any()


def test_a_prompt_is_the_sum_of_its_chunks() -> None:
    times = fit("x", make_profile(LAW))
    assert prompt_time(times, 512, 512) == pytest.approx(LAW.prefill(512), rel=0.01)
    assert prompt_time(times, 1500, 512) == pytest.approx(LAW.prefill(512) + LAW.prefill(512, 512) + LAW.prefill(476, 1024), rel=0.01)


@pytest.mark.parametrize("cached", [True, False])
def test_what_a_steps_tokens_cost_holds_none_of_its_prompts_attention(cached: bool) -> None:
    """Whether or not a point with a cached prefix has shown it: else a step of many short prompts would cost what one long prompt does."""
    profile = make_profile(LAW)
    samples = profile.samples if cached else profile.samples[profile.samples["prefill_context"] == 0]
    times = fit("x", dataclasses.replace(profile, samples=samples))
    for tokens in (128, 512, 1024):
        assert float(times.prefill.at_zero(tokens)) == pytest.approx(LAW.fixed + LAW.token * tokens, rel=0.02)
        assert float(times.prefill_attention(0, tokens)) == pytest.approx(LAW.attention * tokens**2 / 2, rel=0.05)


def test_short_prompts_do_not_tell_their_attention() -> None:
    profile = make_profile(LAW)
    short = profile.samples[(profile.samples["prefill_context"] == 0) & (profile.samples["new_tokens"] <= 384)]
    assert (fit("x", dataclasses.replace(profile, samples=short)).prefill.unit == 0).all()


@pytest.mark.parametrize("factor", [0.2, 6.0])
def test_wild_points_are_found_and_left_out(factor: float) -> None:
    profile = make_profile(LAW)
    samples = profile.samples.copy()
    hit = (samples["kind"] == "decode") & (samples["batch"] == 64) & (samples["context"] == 512)
    hit |= (samples["kind"] == "prefill") & (samples["new_tokens"] == 32)
    samples.loc[hit, "time"] *= factor
    disturbed = dataclasses.replace(profile, samples=samples)
    assert int(wild(disturbed.points(held_out=False)).sum()) == 2
    times = fit("x", disturbed)
    assert float(decode_time(times, 64, 512)) == pytest.approx(LAW.decode(64, 512), rel=0.05)
    assert float(chunk_time(times, 32)) == pytest.approx(LAW.prefill(32), rel=0.05)


def test_a_robust_fit_takes_twice_as_seriously_as_half() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    design = np.stack([np.ones_like(x), x], axis=1)
    for factor in (0.1, 10.0):
        seconds = 2.0 + 3.0 * x
        seconds[2] *= factor
        assert robust_fit(design, seconds)[0] == pytest.approx([2.0, 3.0], rel=0.02)


def test_points_that_a_simple_model_can_be_held_against() -> None:
    points = whole_points(make_profile(LAW))
    assert (points["prefill_context"] == 0).all()
    assert set(points["kind"]) == {"prefill", "decode", "mixed"}
    more = with_context(points, 300.0)
    added = more[more["kind"] == "decode_at_context"]
    assert len(added) == 7  # one per batch
    for batch, time in zip(added["batch"], added["time"], strict=True):
        assert time == pytest.approx(LAW.decode(int(batch), 300.0))
    assert "decode_at_context" not in set(with_context(points, 5000.0)["kind"])  # nothing measured on both sides
