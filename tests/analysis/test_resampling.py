"""Laws of the intervals: paired, exact where no resample can see another ratio, and as wide as they claim, neighbours alike or not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.blocks import LENGTHS, optimal_length, paired_length
from analysis.resampling import Pool, Resamples
from analysis.stats import QUANTILES, STATS, Bootstrap, Estimate, Values, describe, relative_errors

BOOTSTRAP = Bootstrap(resamples=1000, seed=7)


def latencies(n: int = 200, seed: int = 0) -> Values:
    return np.random.default_rng(seed).lognormal(-3, 0.8, n)


def alike(phi: float, n: int, rng: np.random.Generator) -> Values:
    """An AR(1) series of mean 0 in its stationary state: x[i] = phi x[i - 1] + noise."""
    noise = rng.normal(size=n)
    series = np.zeros(n)
    series[0] = noise[0] / np.sqrt(1 - phi**2)
    for i in range(1, n):
        series[i] = phi * series[i - 1] + noise[i]
    return series


def errors(measured: Values, simulated: Values, block: int = 1, bootstrap: Bootstrap = BOOTSTRAP) -> dict[str, Estimate]:
    resamples = Resamples(len(measured), block, bootstrap)
    return dict(zip(STATS, resamples.errors(resamples.describe(measured), resamples.describe(simulated)), strict=True))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.1, 3.0])
@pytest.mark.parametrize("block", [1, 8])
def test_scaling_every_value_gives_that_error_and_an_interval_that_covers_it(factor: float, block: int) -> None:
    measured = latencies()
    for estimate in errors(measured, factor * measured, block).values():
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((factor - 1,) * 3)  # paired: no resample sees another


@given(st.lists(st.one_of(st.floats(1e-3, 1e3), st.just(float("nan"))), min_size=2, max_size=40), st.sampled_from([1, 3]))
def test_a_resample_is_described_as_if_its_requests_were_written_out(values: list[float], block: int) -> None:
    resamples = Resamples(len(values), block, Bootstrap(resamples=100))
    drawn = resamples.describe(np.array(values))
    for weights, row in zip(resamples.weights[:20], drawn.draws.T, strict=False):
        np.testing.assert_allclose(row, describe(np.repeat(values, weights)), rtol=1e-9)
    np.testing.assert_array_equal(drawn.point, describe(np.array(values)))
    [mean] = resamples.means(np.array(values))
    np.testing.assert_allclose(mean.draws[0], drawn.draws[0], rtol=1e-9)
    assert mean.point == pytest.approx(drawn.point[:1], nan_ok=True)
    np.testing.assert_allclose(resamples.sums(np.array(values))[0].draws[0], resamples.weights @ np.nan_to_num(values))


@pytest.mark.parametrize("block", [1, 4, 32])
def test_every_resample_holds_as_many_requests_in_blocks_of_the_mean_length_asked_for(block: int) -> None:
    n = 400
    weights = Resamples(n, block, BOOTSTRAP).weights
    assert set(weights.sum(axis=1)) == {n}
    assert weights.mean(axis=0) == pytest.approx(np.ones(n), abs=0.05 * np.sqrt(block) * 5)
    # the variance of the mean of a block-wise constant series tells the blocks' length: it is that of n / block values
    constant = np.repeat(np.random.default_rng(0).normal(size=n // 2), 2)
    alone, together = (Resamples(n, b, BOOTSTRAP).sums(constant)[0].draws.std() for b in (1, 64))
    assert together > 1.2 * alone


def test_pairing_makes_the_interval_narrower_than_independent_samples_would() -> None:
    measured = latencies()
    noise = np.random.default_rng(1).lognormal(0, 0.02, len(measured))
    paired = errors(measured, measured * noise)["mean"]
    shuffled = errors(measured, np.random.default_rng(2).permutation(measured * noise))["mean"]
    assert paired.value == pytest.approx(shuffled.value)
    assert _width(paired) < 0.2 * _width(shuffled)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    measured, simulated = latencies(seed=1), latencies(seed=2)
    assert errors(measured, simulated) == errors(measured, simulated)
    assert errors(measured, simulated) != errors(measured, simulated, bootstrap=Bootstrap(resamples=1000, seed=8))


def test_intervals_cover_the_truth_about_as_often_as_they_claim() -> None:
    """150 studies of 200 requests with a true error of +12 %: the claimed 95 % is met within sampling error (standard deviation 1.8 %)."""
    rng = np.random.default_rng(2026)
    hits = dict.fromkeys(STATS, 0)
    for _ in range(150):
        measured, simulated = rng.lognormal(-3, 0.5, 200), 1.12 * rng.lognormal(-3, 0.5, 200)
        for stat, estimate in errors(measured, simulated, bootstrap=Bootstrap(resamples=400)).items():
            hits[stat] += _covers(estimate, 0.12)
    assert all(0.90 <= count / 150 <= 0.999 for count in hits.values()), hits


def test_blocks_cover_where_neighbours_are_alike_and_single_requests_do_not() -> None:
    """150 runs of 800 requests whose latencies are an AR(1) of 0.8; the true error of the mean is 0."""
    rng = np.random.default_rng(11)
    hits = {"blocks": 0, "single": 0}
    for _ in range(150):
        measured, simulated = (10 + alike(0.8, 800, rng) for _ in range(2))
        block = paired_length([(measured, simulated)])
        assert block > 8
        for name, length in (("blocks", block), ("single", 1)):
            hits[name] += _covers(errors(measured, simulated, length, Bootstrap(resamples=400))["mean"], 0.0)
    assert 0.88 <= hits["blocks"] / 150 <= 0.999, hits
    assert hits["single"] / 150 < 0.6, hits


@pytest.mark.parametrize(
    ("phi", "n", "length"),
    [(0.0, 400, 1.6768), (0.5, 400, 8.9409), (0.9, 400, 23.5804), (0.9, 1000, 42.2831), (0.97, 300, 26.6058)],
)
def test_block_lengths_are_those_of_the_package_arch(phi: float, n: int, length: float) -> None:
    """arch 8.0.0, optimal_block_length(...)['stationary'], of the same series (it normalises autocorrelations a little otherwise)."""
    noise = np.random.default_rng(5).normal(size=n)
    series = np.zeros(n)
    for i in range(n):
        series[i] = phi * (series[i - 1] if i else 0) + noise[i]
    assert optimal_length(series) == pytest.approx(length, rel=0.01)
    assert optimal_length(1e-3 * series + 5) == pytest.approx(optimal_length(series))


def test_requests_that_have_nothing_in_common_are_drawn_one_by_one_or_nearly_so() -> None:
    lengths = [paired_length([(latencies(300, seed), latencies(300, seed + 99))]) for seed in range(40)]
    assert np.median(lengths) <= 3
    assert {*lengths} <= {*LENGTHS}
    assert optimal_length(np.ones(50)) == optimal_length(np.arange(5.0)) == optimal_length(np.full(50, np.nan)) == 1


def test_blocks_are_as_long_as_the_error_needs_not_as_the_latencies_themselves() -> None:
    rng = np.random.default_rng(8)
    measured = 10 + alike(0.9, 600, rng)
    follows = 1.2 * measured + 0.1 * rng.normal(size=600)  # right about every queue
    assert optimal_length(measured) > 20
    assert paired_length([(measured, follows)]) <= 4
    assert paired_length([(measured, 1.2 * measured)]) == 1
    assert paired_length([(measured, follows), (measured, 10 + alike(0.9, 600, rng))]) > 20
    assert paired_length([(np.zeros(50), np.ones(50)), (np.full(50, np.nan), np.ones(50))]) == 1


def test_a_pool_describes_all_values_of_the_drawn_requests() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.exponential(0.01, size) for size in rng.integers(0, 40, 50)]
    resamples = Resamples(50, 1, Bootstrap(resamples=100))
    described = resamples.describe_pool(Pool(groups, grid=10_000))
    for row, weights in zip(described.draws.T[:6], resamples.weights, strict=False):
        values = np.concatenate([np.tile(group, weight) for group, weight in zip(groups, weights, strict=True)])
        np.testing.assert_allclose(row, [values.mean(), *np.quantile(values, QUANTILES)], rtol=1e-6)


def test_a_thinned_pool_stays_near_the_exact_one() -> None:
    rng = np.random.default_rng(4)
    groups = [rng.exponential(0.01, 100) for _ in range(100)]
    resamples = Resamples(100, 1, Bootstrap(resamples=100))
    thin, exact = (resamples.describe_pool(Pool(groups, grid=grid)) for grid in (512, 10**6))
    np.testing.assert_allclose(thin.draws, exact.draws, rtol=0.02)
    np.testing.assert_allclose(thin.point, exact.point, rtol=0.02)


def test_pools_scaled_by_a_factor_have_that_error_in_every_statistic() -> None:
    groups = [latencies(20, seed) for seed in range(30)]
    resamples = Resamples(30, 2, BOOTSTRAP)
    sides = [resamples.describe_pool(Pool([factor * group for group in groups])) for factor in (1.0, 1.1)]
    for estimate in resamples.errors(*sides):
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.1,) * 3, abs=1e-6)


def test_an_error_against_zero_or_nothing_is_unknown_not_infinite() -> None:
    zeros, ones, nothing = np.zeros(5), np.ones(5), np.full(5, np.nan)
    for measured, simulated in ((zeros, ones), (nothing, ones), (ones, nothing)):
        assert errors(measured, simulated)["mean"] == Estimate(value=None)
    resamples = Resamples(5, 1, BOOTSTRAP)
    assert resamples.errors(*resamples.sums(zeros, ones)) == [Estimate(value=None)]
    assert errors(np.ones(1), 2 * np.ones(1))["p50"] == Estimate(value=1.0)  # one request: no interval


def test_the_error_of_a_total_counts_missing_values_as_nothing() -> None:
    resamples = Resamples(4, 1, BOOTSTRAP)
    [estimate] = resamples.errors(*resamples.sums(np.ones(4), np.array([1.0, np.nan, 1.0, 0.0])))
    assert estimate.value == pytest.approx(-0.5)
    assert _covers(estimate, -0.5)


def test_mape_is_not_fooled_by_errors_that_cancel() -> None:
    measured = np.ones(100)
    simulated = np.where(np.arange(100) % 2 == 0, 0.8, 1.2)
    assert errors(measured, simulated)["mean"].value == pytest.approx(0)
    resamples = Resamples(100, 1, BOOTSTRAP)
    mape = resamples.estimates(resamples.means(relative_errors(measured, simulated))[0])[0]
    assert (mape.value, mape.low, mape.high) == pytest.approx((0.2,) * 3)


def _width(estimate: Estimate) -> float:
    assert estimate.low is not None and estimate.high is not None
    return estimate.high - estimate.low


def _covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high
