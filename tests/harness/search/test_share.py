"""The share of good requests: its bounds hold as often as they say, on requests that are alike, too."""

import numpy as np
import pytest

from harness.search.share import GoodShare

CHANCE = 0.025
WANTED = 0.9


def alike(seed: int, requests: int, memory: float) -> tuple[np.ndarray, np.ndarray]:
    """Flags of a known share, WANTED, and strains: an autoregressive series, so that neighbours are alike."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=requests) * (1 - memory**2) ** 0.5
    series = np.empty(requests)
    series[0] = rng.normal()
    for i in range(1, requests):
        series[i] = memory * series[i - 1] + noise[i]
    return series <= 1.2815515655446004, np.exp(series)


@pytest.mark.parametrize(("memory", "at_least"), [(0.0, 285), (0.9, 285)])
def test_bounds_hold_the_true_share_as_often_as_they_say(memory: float, at_least: int) -> None:
    """Of 300, 285 are five short of what is said: three standard deviations. As independent draws, alike ones are right 190 times."""
    shares = [GoodShare.of(*alike(seed, 400, memory)) for seed in range(300)]
    bounds = [share.bounds(CHANCE) for share in shares]
    assert sum(low <= WANTED <= high for low, high in bounds) >= at_least
    if memory:
        naive = [GoodShare(good=s.good, requests=s.requests, independent=float(s.requests)).bounds(CHANCE) for s in shares]
        assert sum(low <= WANTED <= high for low, high in naive) < 250


def test_a_queue_that_grows_through_a_run_says_next_to_nothing_though_all_requests_are_good() -> None:
    strain = np.linspace(0.1, 0.9, 500)
    growing = GoodShare.of(np.full(500, True), strain)
    steady = GoodShare.of(np.full(500, True), np.random.default_rng(0).permutation(strain))
    assert growing.bounds(CHANCE)[0] < 0.5 and steady.bounds(CHANCE)[0] > 0.98


def test_runs_of_one_load_that_scatter_count_for_less_than_their_requests() -> None:
    one, other = (GoodShare(good=good, requests=100, independent=100.0) for good in (95, 65))
    assert GoodShare.pooled([one, one]).independent == 200.0
    scattered = GoodShare.pooled([one, other])
    assert (scattered.good, scattered.requests) == (160, 200) and scattered.independent < 20


def test_no_requests_say_nothing() -> None:
    assert GoodShare(good=0, requests=0, independent=0.0).bounds(CHANCE) == (0.0, 1.0)
