"""The highest request rate at which a condition holds, by bisection."""

from collections.abc import Callable
from dataclasses import dataclass

DOUBLINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Highest:
    """rate: the highest at which it held (0: it held at none). failing: the lowest above that at which it did not. tries: rates tried."""

    rate: float
    failing: float
    tries: int


def highest_rate(holds: Callable[[float], bool], *, start: float = 1.0, tolerance: float = 0.02) -> Highest:
    """Bisect, in ratios, between a rate that holds and one that does not, until they are within `tolerance` of each other.

    holds: taken to be monotone: where it fails at a rate, it fails at every higher one. start: requests/s to begin with; it is doubled or
    halved until both sides are found. Raises ValueError when it never fails within 2^40 times the start, or for settings out of range.
    """
    if start <= 0 or not 0 < tolerance < 1:
        raise ValueError(f"start must be > 0 and tolerance in (0, 1), got start={start}, tolerance={tolerance}")
    low, high, tries = 0.0, start, 1
    if holds(start):
        while True:
            low, high, tries = high, 2 * high, tries + 1
            if not holds(high):
                break
            if tries > DOUBLINGS:
                raise ValueError(f"it still holds at {high:g} requests/s: nothing in it depends on the rate")
    else:
        while tries <= DOUBLINGS:
            low, tries = high / 2, tries + 1
            if holds(low):
                break
            high = low
        else:
            return Highest(rate=0.0, failing=high, tries=tries)
    while high / low > 1 + tolerance:
        middle, tries = (low * high) ** 0.5, tries + 1
        if holds(middle):
            low = middle
        else:
            high = middle
    return Highest(rate=low, failing=high, tries=tries)
