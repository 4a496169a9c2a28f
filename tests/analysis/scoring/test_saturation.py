"""Where a queue begins to grow: found where it was made to, not found where it was not, and what is served there."""

import numpy as np
import pytest

from analysis.scoring.saturation import LEAST, capacity_window, saturation
from analysis.stats import Values


def queue(arrivals: Values, service: float) -> Values:
    """First tokens of requests served one after another, each in `service` s."""
    free, begun = 0.0, []
    for arrival in arrivals:
        free = max(free, arrival) + service
        begun.append(free)
    return np.array(begun)


def poisson(rate: float, n: int, seed: int = 0) -> Values:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rho", "saturated"), [(0.3, False), (0.6, False), (1.3, True), (2.0, True)])
def test_a_queue_that_keeps_up_is_not_saturated_and_one_that_cannot_is(rho: float, saturated: bool, seed: int) -> None:
    arrivals = poisson(10 * rho, 400, seed)
    begun = queue(arrivals, 0.1)
    found = saturation(arrivals, begun)
    assert found.saturated == saturated
    assert (found.change_point is not None) == saturated
    if saturated:
        assert found.growth == pytest.approx((begun > arrivals[-1]).sum(), rel=0.5)


def test_the_change_point_is_where_the_load_was_raised() -> None:
    calm, busy = poisson(4, 200), poisson(20, 300, seed=1)
    raised = float(calm[-1])
    arrivals = np.concatenate([calm, raised + busy])
    found = saturation(arrivals, queue(arrivals, 0.1))
    assert found.change_point == pytest.approx(raised, abs=2.0)
    assert found.requests == pytest.approx(300, abs=40)


def test_failures_do_not_hide_saturation() -> None:
    arrivals = poisson(20, 300)
    begun = queue(arrivals, 0.1)
    lost = begun.copy()
    lost[::3] = np.nan
    assert saturation(arrivals, lost).saturated


@pytest.mark.parametrize(
    ("arrivals", "begun"),
    [
        (poisson(20, 300), np.full(300, np.nan)),  # all were lost
        (poisson(20, 2 * LEAST - 1), poisson(20, 2 * LEAST - 1) + 0.1),  # the queue keeps up
        (poisson(20, 2 * LEAST - 1), queue(poisson(20, 2 * LEAST - 1), 1.0)),  # it does not
        (np.zeros(100), queue(np.zeros(100), 0.1)),  # all at once
        (np.empty(0), np.empty(0)),
    ],
)
def test_what_is_too_short_to_tell_is_neither_saturated_nor_not(arrivals: Values, begun: Values) -> None:
    found = saturation(arrivals, begun)
    assert (found.saturated, found.change_point, found.requests, found.growth) == (None, None, None, None)


def test_scaling_time_scales_the_change_point_and_nothing_else() -> None:
    arrivals = np.concatenate([poisson(4, 200), 60 + poisson(20, 300, seed=1)])
    begun = queue(arrivals, 0.1)
    one, other = saturation(arrivals, begun), saturation(7 * arrivals, 7 * begun)
    assert one.change_point is not None
    assert other.change_point == pytest.approx(7 * one.change_point)
    assert other.requests == one.requests
    assert other.growth == pytest.approx(one.growth)


def test_capacity_is_taken_after_the_slots_have_filled_where_that_leaves_enough() -> None:
    arrivals = np.linspace(0, 100, 101)
    assert capacity_window(20.0, arrivals, arrivals + 5.0) == (25.0, 100.0)
    assert capacity_window(20.0, arrivals, arrivals + 50.0) == (20.0, 100.0)
