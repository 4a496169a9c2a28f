import pytest

from simulators.native.planning.highest_rate import highest_rate


@pytest.mark.parametrize("limit", [0.013, 0.99, 1.0, 1.01, 7.0, 4096.5])
@pytest.mark.parametrize("tolerance", [0.2, 0.01])
def test_the_limit_lies_between_what_held_and_what_did_not(limit: float, tolerance: float) -> None:
    asked: list[float] = []

    def holds(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = highest_rate(holds, tolerance=tolerance)
    assert found.rate <= limit < found.failing <= found.rate * (1 + tolerance)
    assert {found.rate, found.failing} <= set(asked) and found.tries == len(asked) == len(set(asked))


def test_what_never_holds_has_rate_zero() -> None:
    found = highest_rate(lambda rate: False)
    assert found.rate == 0 and found.failing < 1e-9


def test_what_always_holds_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing in it depends on the rate"):
        highest_rate(lambda rate: True)
