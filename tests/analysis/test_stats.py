"""Laws of the statistics: exact on known answers, invariant where they must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats import (
    QUANTILES,
    Bootstrap,
    Values,
    describe,
    ks_distance,
    relative_errors,
    relative_spread,
    wasserstein_distance,
)


def latencies(n: int = 200, seed: int = 0) -> Values:
    return np.random.default_rng(seed).lognormal(-3, 0.8, n)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), st.integers(0, 5))
def test_describe_is_numpys_mean_and_quantiles_and_skips_nan(values: list[float], missing: int) -> None:
    padded = np.array([*values, *[np.nan] * missing])
    expected = [np.mean(values), *np.quantile(values, QUANTILES)]
    np.testing.assert_allclose(describe(padded), expected, rtol=1e-9)


def test_describe_works_along_the_last_axis_and_is_nan_without_values() -> None:
    rows = np.stack([latencies(30), np.full(30, np.nan)])
    described = describe(rows)
    np.testing.assert_array_equal(described[:, 0], describe(rows[0]))
    assert np.isnan(described[:, 1]).all()
    assert np.isnan(describe(np.empty(0))).all()


def test_relative_errors_are_of_requests_that_have_one() -> None:
    measured = np.array([1.0, 2.0, 0.0, np.nan, 4.0])
    simulated = np.array([1.5, 1.0, 9.0, 1.0, np.nan])
    np.testing.assert_array_equal(relative_errors(measured, simulated), [0.5, 0.5, np.nan, np.nan, np.nan])


def test_distances_are_zero_for_the_same_values_and_known_for_a_shift() -> None:
    values = latencies()
    assert ks_distance(values, np.random.default_rng(0).permutation(values)) == 0
    assert wasserstein_distance(values, values) == 0
    assert wasserstein_distance(values, values + 0.25) == pytest.approx(0.25)
    assert ks_distance(values, values + 100) == 1
    assert ks_distance(values, np.full(3, np.nan)) is None
    assert wasserstein_distance(np.empty(0), values) is None


def test_the_noise_floor_is_the_relative_standard_deviation_of_repeats() -> None:
    assert relative_spread([1.0, 1.1, 0.9]) == pytest.approx(0.1)
    assert relative_spread([1.0]) is None
    assert relative_spread([0.0, 0.0]) is None


def test_a_bootstrap_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bootstrap\.resamples must be >= 100, got 3"):
        Bootstrap(resamples=3)
    with pytest.raises(ValueError, match=r"bootstrap\.confidence must be between 0 and 1, got 95"):
        Bootstrap(confidence=95)
