"""The search for a capacity, on shares that fall by a known law: the rate at which they cross is known."""

import math

import numpy as np
import pytest

from results.record import SLO
from simulators.native.planning.attainment import Attainment, load_error, unseen
from simulators.native.planning.capacity import SustainedRate, find_sustained_rate
from workloads.trace import Columns

WANTED = 0.9


class Server:
    """Its share is `WANTED` at `limit`. noise: standard deviation there of a share of 1,000 requests; seeded. load_error: of the trace."""

    def __init__(
        self,
        limit: float,
        *,
        noise: float = 0.0,
        seed: int = 0,
        steep: float = 12.0,
        best: float = 1.0,
        load_error: float = 0.0,
        unseen: float = 0.0,
    ) -> None:
        self.limit, self.noise, self.steep, self.best, self.load_error, self.unseen = limit, noise, steep, best, load_error, unseen
        self.rng = np.random.default_rng(seed)
        self.asked: list[tuple[float, int]] = []
        self._off: dict[int, float] = {}

    def __call__(self, rate: float, requests: int) -> Attainment:
        self.asked.append((rate, requests))
        share = self.best / (1 + math.exp(min(700.0, self.steep * math.log(max(1e-300, rate / self.limit)))) * (1 / WANTED - 1))
        scale = self.noise * (1000 / requests) ** 0.5 * (share * (1 - share) / WANTED / (1 - WANTED)) ** 0.5
        off = self._off.setdefault(requests, float(self.rng.normal())) * scale
        noisy, under_way = min(1.0, max(0.0, share + off)), min(rate / self.limit, 30.0)
        return Attainment(
            share=noisy, error=1.96 * scale, load_error=self.load_error, unseen=self.unseen, in_flight=under_way, requests=requests
        )


def found(server: Server, *, precision: float = 0.02, fewest: int = 1000, most: int = 100_000) -> SustainedRate | None:
    return find_sustained_rate(server, WANTED, precision=precision, fewest=fewest, most=most)


@pytest.mark.parametrize("limit", [0.0013, 0.99, 1.0, 7.0, 40_960.5])
def test_the_rate_is_where_the_share_is_the_one_asked_for(limit: float) -> None:
    server = Server(limit)
    capacity = found(server)
    assert capacity and capacity.settled
    assert capacity.rate == pytest.approx(limit, rel=0.01) and capacity.low <= capacity.rate <= capacity.high
    assert capacity.simulations == len(server.asked) == len(set(server.asked)) <= 30


@pytest.mark.parametrize("limit", [6.7, 7.0, 7.31])
def test_where_the_share_falls_as_from_a_cliff_the_interval_says_how_near_it_was_looked_for(limit: float) -> None:
    """Between two rates of which one has all requests good and the other none, a straight line is a guess."""
    server = Server(limit, steep=3000.0)
    capacity = found(server, precision=0.1)
    assert capacity and capacity.settled and capacity.low < limit < capacity.high
    assert capacity.high <= capacity.low * 1.055
    assert {capacity.low, capacity.high} <= {rate for rate, _ in server.asked}


def test_it_simulates_longer_until_the_interval_is_as_narrow_as_asked() -> None:
    wide, narrow = (found(Server(7.0, noise=0.02), precision=precision) for precision in (0.05, 0.005))
    assert wide and narrow and wide.settled and narrow.settled
    assert narrow.requests > 4 * wide.requests
    for capacity, precision in ((wide, 0.05), (narrow, 0.005)):
        assert max(capacity.high - capacity.rate, capacity.rate - capacity.low) <= precision * capacity.rate


def test_the_interval_holds_the_rate_as_often_as_it_says() -> None:
    """In 95 of 100 cases; fewer than 90 of 200 happen once in a thousand times."""
    capacities = [found(Server(7.0, noise=0.05, seed=seed), precision=0.02) for seed in range(200)]
    assert sum(c is not None and c.low <= 7.0 <= c.high for c in capacities) >= 180


def test_the_longest_simulation_is_the_last_and_says_that_it_did_not_do() -> None:
    capacity = found(Server(7.0, noise=0.2), precision=0.001, most=5_000)
    assert capacity and not capacity.settled and capacity.requests == 5_000
    assert capacity.low < capacity.high


def test_no_rate_will_do_when_one_at_a_time_is_too_many() -> None:
    assert found(Server(7.0, best=0.8)) is None


def test_what_always_holds_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing in it depends on the rate"):
        found(Server(math.inf))


def test_a_trace_too_short_for_a_queue_is_refused() -> None:
    with pytest.raises(ValueError, match=r"capacity: 5 requests at .*/s last .* s, and one takes .* s: too short for a queue to build up"):
        found(Server(7.0), fewest=5, most=5)


def test_no_interval_is_narrower_than_what_is_known_of_the_load() -> None:
    """Shares that do not scatter at all may be those of a run that saw no busy stretch."""
    capacity = found(Server(7.0, load_error=0.03), precision=0.1)
    assert capacity and capacity.low <= 7.0 * (1 - 0.03) and capacity.high >= 7.0 * (1 + 0.03)


def test_the_interval_has_the_load_below_that_a_run_is_too_short_to_be_late_with() -> None:
    slo, seconds = SLO(ttft=3.0, tpot=0.1), 60.0
    capacity = found(Server(7.0, unseen=unseen(slo, seconds)), precision=0.1)
    assert capacity and capacity.low <= 7.0 * (1 - 0.05) and capacity.high < 7.0 * 1.02
    assert unseen(SLO(tpot=0.1), seconds) == 0.0


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    apart = rng.random(4000) < 0.9
    alike = np.repeat(rng.random(40) < 0.8, 100)
    of_apart, of_alike = (Attainment.of(good, in_flight=1.0, load_error=0.0, unseen=0.0) for good in (apart, alike))
    assert of_apart.error < 0.025 < 0.1 < of_alike.error
    counted = apart[800:]
    assert of_apart.share == pytest.approx(counted.mean())


def test_the_load_is_as_sure_as_a_compound_poisson_process_says() -> None:
    """Of n requests its relative error is ((1 + cv^2) / n)^0.5, where lengths scatter by cv; and nothing, where nothing scatters."""
    rng = np.random.default_rng(5)
    n, counted = 5_000, 4_000
    errors = []
    for _ in range(40):
        lengths = rng.exponential(100.0, (2, n)).astype(np.int64) + 1
        errors.append(load_error(Columns(np.arange(n), np.cumsum(rng.exponential(0.1, n)), *lengths)))
    of_either = 2.09 * (2 / counted) ** 0.5  # Student's factor of 20 batches; the larger of two
    assert of_either < np.mean(errors) < 1.25 * of_either
    even = np.full(n, 100)
    assert load_error(Columns(np.arange(n), np.arange(n) / 10.0, even, even)) == pytest.approx(0.0, abs=1e-9)


class Patient(Server):
    """Nobody is late while fewer requests come than it serves within a limit: however many at once."""

    def __call__(self, rate: float, requests: int) -> Attainment:
        return super().__call__(rate if requests > 1_000 else min(rate, 0.5 * self.limit), requests)


def test_limits_that_the_first_simulations_are_too_short_to_miss() -> None:
    capacity = found(Patient(7.0), fewest=2_000)
    assert capacity and capacity.settled and capacity.rate == pytest.approx(7.0, rel=0.01)
