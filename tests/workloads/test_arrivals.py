"""Each arrival process is held to its law: mean rate, dispersion of gaps and of counts, and the whole gap distribution (KS).

Bounds are stated as standard errors at fixed seeds; under the law a bound of 4 fails one seed in 16,000.
"""

import numpy as np
import pytest
from scipy import stats

from workloads import arrivals
from workloads.arrivals import Times

SEEDS = (0, 1, 2, 3, 4)
RATE, N = 7.0, 20_000
SHAPES = (0.25, 1.0, 4.0)


def drawn(process: str, seed: int, shape: float = 1.0) -> Times:
    return arrivals.draw(np.random.default_rng(seed), process, RATE, N, shape)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("process", "shape"), [("poisson", 1.0), *(("gamma", shape) for shape in SHAPES)])
class TestRenewal:
    def gaps(self, process: str, shape: float, seed: int) -> Times:
        return np.diff(drawn(process, seed, shape), prepend=0.0)

    def test_mean_rate(self, process: str, shape: float, seed: int) -> None:
        error = self.gaps(process, shape, seed).mean() * RATE - 1
        assert abs(error) < 4 / np.sqrt(shape * N)  # a gap's standard deviation is its mean / sqrt(shape)

    def test_gaps_follow_the_gamma_law(self, process: str, shape: float, seed: int) -> None:
        law = stats.gamma(shape, scale=1 / (RATE * shape))
        assert stats.kstest(self.gaps(process, shape, seed), law.cdf).pvalue > 1e-4

    def test_gaps_are_independent(self, process: str, shape: float, seed: int) -> None:
        gaps = self.gaps(process, shape, seed)
        assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / np.sqrt(N)

    def test_dispersion_of_gaps(self, process: str, shape: float, seed: int) -> None:
        gaps = self.gaps(process, shape, seed)
        squared_cv = gaps.var() / gaps.mean() ** 2
        # bootstrap-free standard error of a squared CV (delta method) with the gamma law's moments: sqrt((2/k^2 + 2/k^3) / n)
        assert abs(squared_cv - 1 / shape) < 4 * np.sqrt((2 / shape**2 + 2 / shape**3) / N)


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_counts_have_dispersion_one(seed: int) -> None:
    times = drawn("poisson", seed)
    counts = np.bincount(times.astype(int))[: int(times[-1])]
    # (m - 1) * variance / mean is chi-squared with m - 1 degrees of freedom
    dispersion = counts.var(ddof=1) / counts.mean()
    assert abs(dispersion - 1) < 4 * np.sqrt(2 / len(counts))


@pytest.mark.parametrize("shape", [0.25, 4.0])
def test_gamma_counts_have_the_dispersion_of_their_gaps_in_the_long_run(shape: float) -> None:
    counts = np.concatenate([np.bincount((drawn("gamma", seed, shape) // 40).astype(int))[:-1] for seed in range(20)])
    dispersion = counts.var(ddof=1) / counts.mean()
    # about 1,400 windows of 280 arrivals; the window's edge effect is (1 - shape^2) / (6 * 280 * shape^2) of 1/shape at most: below 1 %
    assert abs(dispersion * shape - 1) < 4 * np.sqrt(2 / len(counts)) + 0.01


def test_constant_arrivals_are_a_comb() -> None:
    assert arrivals.constant(4.0, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert drawn("constant", 0).tolist() == drawn("constant", 1).tolist()


@pytest.mark.parametrize("process", arrivals.PROCESSES)
def test_an_infinite_rate_puts_all_at_zero(process: str) -> None:
    assert arrivals.draw(np.random.default_rng(0), process, float("inf"), 3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("process", arrivals.PROCESSES)
def test_one_seed_gives_one_pattern_at_every_rate_and_length(process: str) -> None:
    slow, fast = (arrivals.draw(np.random.default_rng(5), process, rate, 100, 0.5) for rate in (1.0, 10.0))
    assert np.allclose(slow, 10 * fast, atol=2e-8)
    fewer = arrivals.draw(np.random.default_rng(5), process, 1.0, 40, 0.5)
    assert fewer.tolist() == slow[:40].tolist()


def test_scaling_keeps_the_pattern_and_reaches_the_rate() -> None:
    times = np.array([1.0, 2.0, 2.0, 6.0])
    faster = arrivals.scale_to_rate(times, 3.0)
    assert 3 / (faster[-1] - faster[0]) == pytest.approx(3.0, rel=1e-12)
    assert np.diff(faster) / np.diff(faster).sum() == pytest.approx(np.diff(times) / 5)
    assert arrivals.scale_to_rate(times, float("inf")).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="one instant"):
        arrivals.scale_to_rate(np.array([2.0, 2.0]), 1.0)


def test_spreading_is_uniform_within_the_tick() -> None:
    ticks = np.repeat(np.arange(2000) * 3.0, 5)
    spread = arrivals.spread(np.random.default_rng(0), ticks, 3.0)
    assert stats.kstest((spread - ticks) / 3.0, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(("process", "burstiness"), [("pareto", 1.0), ("gamma", 0.0), ("gamma", float("nan"))])
def test_an_unknown_process_is_refused(process: str, burstiness: float) -> None:
    with pytest.raises(ValueError, match=r"workload\.(arrivals|burstiness)"):
        arrivals.check_process(process, burstiness)
