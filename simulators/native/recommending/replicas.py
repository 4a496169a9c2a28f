"""The fewest replicas whose share of good requests is the one wanted, found by simulating one of them at its share of the rate."""

import math
from collections.abc import Callable

from simulators.native.planning.attainment import Attainment
from simulators.native.planning.capacity import ALONE

FIRST_STEP = 1.15  # ratio of the second number that is tried to the first
FARTHEST = 4.0  # ratio of a number that is tried to the one before

ANY = 1 << 40  # replicas; more than anybody has
Share = Callable[[int], Attainment]  # of good requests, with a number of replicas
Trials = dict[int, Attainment]


def fewest_replicas(at: Share, wanted: float, *, first: int, sketch: Share | None = None, most: int = ANY) -> tuple[int | None, Trials]:
    """The number, and what was simulated; None: not even a replica that serves one at a time will do, or so many
    are not wanted.

    at: of a number of replicas; taken to rise with it. first: fewer will not do. sketch: about the same, with less work: it says where to
    look, and `at` alone decides. most: nobody wants more.
    """
    known: Trials = {}

    def enough(number: int) -> bool:
        if number not in known:
            known[number] = at(number)
        return known[number].share >= wanted

    start = first
    if sketch is not None:
        found, tried = fewest_replicas(sketch, wanted, first=first, most=most)
        start = found or max(tried)
    low, high = (_down(enough, start, first) if enough(start) else (start, None)) if start > first else (first - 1, None)
    if high is None:
        high, step = max(low + 1, start), FIRST_STEP
        while not enough(high):
            if known[high].in_flight < ALONE or high >= most:
                return None, known
            low, high, step = high, min(most, max(high + 1, math.ceil(high * step))), min(step * step, FARTHEST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, known


def _down(enough: Callable[[int], bool], high: int, first: int) -> tuple[int, int]:
    """(too few, enough): steps down from a number that is enough, each twice the one before."""
    step = 1
    while high > first:
        low = max(first, high - step)
        if not enough(low):
            return low, high
        high, step = low, 2 * step
    return first - 1, high
