"""What is asked over a day: when, how long, and of which class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.native.autoscaling.rates import DayRates
from workloads.columns import columns_of
from workloads.trace import Columns, Trace

LENGTHS = 100_000  # requests whose lengths are drawn; a longer day has the same ones again
MOST = 6_000_000  # requests of a day
OF_TIMES, OF_CLASSES = 71, 72  # streams of the seed


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRequests:
    """In order of arrival."""

    asked: Columns
    second: NDArray[np.bool_]  # whether each is of the second class
    name: str  # of the workload


def day_requests(rates: DayRates, lengths: Trace, *, share: float, seed: int) -> DayRequests:
    """Arrivals at these rates, lengths of a trace's requests in its order, over and over.

    share: of requests that are of the second class, each by itself. Raises ValueError for too many, none, and prompts that share blocks.
    """
    if lengths.block_size is not None or lengths.has_sessions:
        raise ValueError(f"day: requests of {lengths.name} share prompts or wait for each other, which a day does not have; name others")
    if rates.mean * rates.seconds > MOST:
        raise ValueError(f"day: {rates.mean * rates.seconds:,.0f} requests are more than {MOST:,}; give a shorter day (day.seconds)")
    arrival = rates.arrivals(np.random.default_rng([seed, OF_TIMES]))
    if not len(arrival):
        raise ValueError("day: not one request arrives; give a higher rate, or a longer day (day.seconds)")
    drawn = columns_of(lengths)
    number = len(arrival)
    asked = Columns(
        request_id=np.arange(number),
        arrival=arrival,
        input_tokens=np.resize(drawn.input_tokens, number),
        output_tokens=np.resize(drawn.output_tokens, number),
    )
    return DayRequests(asked=asked, second=of_second(number, share, seed), name=lengths.name)


def of_second(number: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of so many requests are of the second class."""
    return np.random.default_rng([seed, OF_CLASSES]).random(number) < share
