"""Laws of differences, intervals and verdicts, over many seeded cases of known truth."""

import numpy as np
import pytest

from analysis.comparison.difference import Difference, Noise, difference, noise_of
from analysis.comparison.requests_spread import RequestsSpread, spreads
from analysis.comparison.verdicts import verdicts
from analysis.stats import Bootstrap
from tests.analysis.comparison.samples import TTFT, of_latencies, of_values

FEW = Bootstrap(resamples=300)
NONE = RequestsSpread(below=0.0, above=0.0)


def compared(rng: np.random.Generator, truth: float, *, same: bool, runs: int = 3, n: int = 120, noise: float = 0.03) -> Difference:
    """B is (1 + truth) times A in the long run. A run has a factor of its own, its requests theirs; same: both serve the same requests."""
    asked = rng.gamma(2.0, 0.1, n)
    other = asked if same else rng.gamma(2.0, 0.1, n)
    ones, others = (
        [scale * factor * of * rng.gamma(50.0, 1 / 50, n) for factor in rng.normal(1.0, noise, runs)]
        for scale, of in ((1.0, asked), (1 + truth, other))
    )
    sides = [of_values(name, [float(np.mean(values)) for values in of]) for name, of in (("a", ones), ("b", others))]
    first, second = of_latencies("a", ones[0]), of_latencies("b", others[0], trace="t" if same else "other")
    return difference(TTFT, sides, spreads(first, second, FEW)[TTFT], noise_of(TTFT, sides, 0.05), 0.95)


@pytest.mark.parametrize("same", [True, False])
def test_an_interval_holds_a_known_difference_in_about_95_of_100_cases(same: bool) -> None:
    rng = np.random.default_rng(7)
    found = [compared(rng, 0.1, same=same) for _ in range(100)]
    held = np.mean([one.low is not None and one.high is not None and one.low <= 0.1 <= one.high for one in found])
    assert 0.91 <= held <= 1.0
    assert 0.05 < np.median([width(one) for one in found]) < (0.2 if same else 0.6)


def width(found: Difference) -> float:
    assert found.low is not None and found.high is not None
    return found.high - found.low


def test_the_same_requests_make_a_narrower_interval_than_others() -> None:
    widths = [[width(compared(np.random.default_rng(seed), 0.1, same=same)) for seed in range(6)] for same in (True, False)]
    assert np.median(widths[0]) < 0.5 * np.median(widths[1])


def test_more_repeats_and_less_noise_make_it_narrower() -> None:
    def median(runs: int, noise: float) -> float:
        return float(np.median([width(compared(np.random.default_rng(seed), 0.0, same=True, runs=runs, noise=noise)) for seed in range(9)]))

    assert median(8, 0.03) < median(3, 0.03) and median(3, 0.005) < median(3, 0.03)


def test_the_floor_is_that_of_the_repeats_pooled_and_assumed_where_there_are_none() -> None:
    one, other = of_values("a", [1.0, 1.1]), of_values("b", [2.0, 2.2, 2.4])
    spread = [np.std(values, ddof=1) / np.mean(values) for values in ([1.0, 1.1], [2.0, 2.2, 2.4])]
    found = noise_of(TTFT, [one, other], 0.05)
    assert (found.freedom, found.measured) == (3, True) and found.floor == pytest.approx(np.sqrt((spread[0] ** 2 + 2 * spread[1] ** 2) / 3))
    assert noise_of(TTFT, [of_values("a", [1.0]), of_values("b", [1.0])], 0.05) == Noise(floor=0.05, freedom=1e9, measured=False)
    assert noise_of(TTFT, [one, one], 0.05).freedom == 1, "two runs of one cell have one set of repeats"


def by_noise(rng: np.random.Generator, truth: float = 0.0) -> Difference:
    sides = [of_values(name, list(scale * rng.normal(1.0, 0.02, 3))) for name, scale in (("a", 1.0), ("b", 1.0 + truth))]
    return difference(TTFT, sides, NONE, noise_of(TTFT, sides, 0.05), 0.95)


def test_of_many_figures_without_a_difference_none_is_told_in_95_of_100_comparisons() -> None:
    """By their intervals alone one of 18 figures would be told in six of ten."""
    rng = np.random.default_rng(3)
    families = [[by_noise(rng) for _ in range(18)] for _ in range(80)]
    told = [any(one.word in ("better", "worse") for one in verdicts([(figure, ()) for figure in family], 0.0)) for family in families]
    apart = [any(figure.low > 0 or figure.high < 0 for figure in family) for family in families]  # type: ignore[operator]
    assert np.mean(told) <= 0.09 and np.mean(apart) > 0.3


@pytest.mark.parametrize(("truth", "word"), [(0.3, "worse"), (-0.3, "better")])
def test_a_difference_far_beyond_the_noise_is_told(truth: float, word: str) -> None:
    rng = np.random.default_rng(1)
    assert {verdicts([(by_noise(rng, truth), ())], 0.01)[0].word for _ in range(20)} == {word}


def test_a_difference_inside_the_margin_is_none_and_one_beyond_it_is_judged_from_the_margin_on() -> None:
    found = difference(TTFT, [of_values("a", [1.0]), of_values("b", [1.01])], NONE, Noise(floor=0.001, freedom=1e9, measured=True), 0.95)
    assert [verdicts([(found, ())], margin)[0].word for margin in (0.0, 0.02, 0.0099)] == ["worse", "same", "cannot tell"]


def test_what_would_tell_does_tell() -> None:
    def with_runs(n: int) -> Difference:
        noise = Noise(floor=0.03, freedom=2 * (n - 1), measured=True)
        return difference(TTFT, [of_values("a", [1.0] * n), of_values("b", [1.06] * n)], NONE, noise, 0.95)

    [verdict] = verdicts([(with_runs(2), ())], 0.01)
    assert verdict.word == "cannot tell" and verdict.more is not None and verdict.more.repeats is not None
    needed = verdict.more.repeats
    assert verdict.more.times == 1 and [verdicts([(with_runs(n), ())], 0.01)[0].word for n in (needed - 1, needed)] == [
        "cannot tell",
        "worse",
    ]


def test_more_requests_are_asked_for_where_repeats_alone_cannot_tell() -> None:
    wide = RequestsSpread(below=0.1, above=0.1)
    found = difference(TTFT, [of_values("a", [1.0]), of_values("b", [1.06])], wide, Noise(floor=0.001, freedom=1e9, measured=True), 0.95)
    more = verdicts([(found, ())], 0.01)[0].more
    assert more is not None and more.times is not None and more.times > 1


def test_at_high_load_few_requests_have_no_interval_and_the_number_is_named() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 0.1, 120)
    assert spreads(of_latencies("a", values, rho=0.3), of_latencies("b", 1.1 * values, rho=0.3), FEW).keys() > {("ttft", "p50")}
    assert not [key for key in spreads(of_latencies("a", values, rho=0.3), of_latencies("b", values, rho=0.9), FEW) if key[0] == "ttft"]
    sides = [of_values("a", [1.0]), of_values("b", [1.2])]
    found = difference(TTFT, sides, None, noise_of(TTFT, sides, 0.05), 0.95)
    for side, _ in sides:
        assert side.cells
    at_90 = [type(cell)(runs=[of_latencies("a", values, rho=0.9).run], valid=cell.valid) for _, cell in sides]
    [verdict] = verdicts([(found, at_90)], 0.01)
    assert verdict.word == "cannot tell" and verdict.more is not None and verdict.more.requests == (48 * 341)
