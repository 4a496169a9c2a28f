"""Each length law is held to its probabilities (chi-squared, mean), bounds included."""

import math

import numpy as np
import pytest
from scipy import stats

from workloads.lengths import Empirical, Fixed, Lognormal, scaled

N = 50_000
LAWS = [
    Lognormal(mean=300.0, cv=0.96, most=3500),
    Lognormal(mean=40.0, cv=0.77),
    Lognormal(median=3.0, sigma=1.2, most=10),  # both bounds bite
    Lognormal(mean=1.0, cv=2.0),
]


def probabilities(law: Lognormal, k: np.ndarray) -> np.ndarray:
    """P(draw <= k) by the docstring's words, from scipy's own lognormal."""
    mu, sigma = law.parameters()
    x = stats.lognorm(sigma, scale=math.exp(mu))
    low, high = x.cdf(0.5), 1.0 if law.most is None else x.cdf(law.most + 0.5)
    return np.asarray((x.cdf(k + 0.5) - low) / (high - low))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("law", LAWS)
def test_lognormal_draws_follow_the_law(law: Lognormal, seed: int) -> None:
    draws = law.sample(np.random.default_rng(seed), N)
    assert draws.min() >= 1
    assert law.most is None or draws.max() <= law.most
    # cells of about equal probability, chosen from the law alone
    k = np.arange(1, 5000 if law.most is None else law.most)
    edges = np.unique(k[np.searchsorted(probabilities(law, k), np.linspace(0.02, 0.96, 40))])
    cumulative = np.concatenate([[0.0], probabilities(law, edges), [1.0]])
    observed = np.histogram(draws, bins=[0, *(edges + 0.5), np.inf])[0]
    assert stats.chisquare(observed, np.diff(cumulative) * N).pvalue > 1e-4


def test_mean_and_cv_are_those_of_the_lognormal() -> None:
    draws = Lognormal(mean=300.0, cv=0.96).sample(np.random.default_rng(0), 200_000)
    assert draws.mean() == pytest.approx(300, rel=4 * 0.96 / math.sqrt(200_000))
    assert draws.std() / draws.mean() == pytest.approx(0.96, rel=0.03)


def test_median_and_sigma_are_those_of_the_lognormal() -> None:
    logs = np.log(Lognormal(median=500.0, sigma=0.5).sample(np.random.default_rng(0), N))
    assert logs.mean() == pytest.approx(math.log(500), abs=4 * 0.5 / math.sqrt(N) + 1e-5)
    assert logs.std() == pytest.approx(0.5, rel=4 / math.sqrt(2 * N))


def test_empirical_draws_resample_the_values_up_to_most() -> None:
    draws = Empirical(values=[5, 5, 9, 1000], most=100).sample(np.random.default_rng(0), 30_000)
    assert set(draws.tolist()) == {5, 9}
    assert np.mean(draws == 9) == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 30_000))


def test_fixed_is_fixed() -> None:
    assert Fixed(tokens=7).sample(np.random.default_rng(0), 3).tolist() == [7, 7, 7]


@pytest.mark.parametrize("law", [*LAWS, Empirical(values=[1, 2, 3])])
def test_fewer_draws_are_the_first_of_more(law: Lognormal | Empirical) -> None:
    many, few = (law.sample(np.random.default_rng(1), n) for n in (50, 20))
    assert few.tolist() == many[:20].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mean": 3.0},
        {"mean": 3.0, "cv": 1.0, "median": 2.0, "sigma": 1.0},
        {"mean": 3.0, "cv": 1.0, "sigma": 1.0},
        {"mean": -3.0, "cv": 1.0},
        {"mean": 3.0, "cv": 0.0},
        {"mean": 3000.0, "cv": 0.1, "most": 5},
        {"mean": 3.0, "cv": 1.0, "most": 0},
    ],
)
def test_a_lognormal_that_is_none_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Lognormal"):
        Lognormal(**settings)  # type: ignore[arg-type]


def test_other_laws_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens must be >= 1"):
        Fixed(tokens=0)
    with pytest.raises(ValueError, match="must all be >= 1"):
        Empirical(values=[3, 0])
    with pytest.raises(ValueError, match="no values"):
        Empirical(values=[])


def test_scaling_rounds_to_the_nearest_but_never_to_nothing() -> None:
    assert [scaled(n, 0.25) for n in (1, 2, 5, 6, 400)] == [1, 1, 1, 2, 100]
    assert scaled(7, 1.0) == 7
