"""The fewest replicas whose share of good requests is the one wanted, found by simulating one of them at its share of the rate."""

import math
from collections.abc import Callable

from simulators.native.planning.attainment import Attainment
from simulators.native.planning.capacity import ALONE

FIRST_STEP = 1.15  # ratio of the second number that is tried to the first
FARTHEST = 4.0  # ratio of a number that is tried to the one before

Trials = dict[int, Attainment]


def fewest_replicas(at: Callable[[int], Attainment], wanted: float, *, first: int) -> tuple[int | None, Trials]:
    """The number, and what was simulated; None: not even a replica that serves one at a time will do.

    at: of a number of replicas; taken to rise with it. first: fewer will not do.
    """
    known: Trials = {}

    def enough(number: int) -> bool:
        known[number] = at(number)
        return known[number].share >= wanted

    low, high, step = first - 1, first, FIRST_STEP
    while not enough(high):
        if known[high].in_flight < ALONE:
            return None, known
        low, high, step = high, max(high + 1, math.ceil(high * step)), min(step * step, FARTHEST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, known
