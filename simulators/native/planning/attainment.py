"""Attainment: the share of the requests that meet the SLO at one rate, and how far it may be off.

A run of n requests in a queue tells less than n independent ones. Its requests, in order of arrival, are cut into batches that are long
beside the time over which neighbours are alike; the scatter of the batches' shares is the share's error (batch means: Law, Simulation
Modeling and Analysis, section 9.5.3; 10 to 30 batches by Schmeiser 1982, doi:10.1287/opre.30.3.556).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.correlation import correlation_time

WARM_UP = 0.2  # of the requests, the first, which find a queue that is still building up
BATCHES = 20
FEWEST_IN_BATCH = 20  # requests
ALIKE = 0.25  # of a batch, at most, over which neighbours are alike
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """The share at one rate."""

    share: float  # of the requests after the warm-up
    error: float  # half the width of its interval at CONFIDENCE
    apart: bool  # whether the batches are long enough for that
    in_flight: float  # requests under way, on average
    requests: int  # that arrived, the warm-up's included

    @classmethod
    def of(cls, good: npt.NDArray[np.bool_], *, in_flight: float) -> "Attainment":
        """good: by request, in order of arrival."""
        from scipy.special import stdtrit  # here: a plan that asks for no capacity need not wait for it

        counted = good[int(WARM_UP * len(good)) :].astype(np.float64)
        number = int(np.clip(len(counted) // FEWEST_IN_BATCH, 2, BATCHES))
        means = np.array([batch.mean() for batch in np.array_split(counted, number)])
        return cls(
            share=float(counted.mean()),
            error=float(stdtrit(number - 1, (1 + CONFIDENCE) / 2) * means.std(ddof=1) / number**0.5),
            apart=correlation_time(counted) <= ALIKE * len(counted) / number,
            in_flight=in_flight,
            requests=len(good),
        )
