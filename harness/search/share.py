"""The share of a run's requests that were good, and how far the true share may be from it.

The requests of a run are no independent draws: those that stood in one queue meet the SLO together or miss it together. So n requests
tell as much as n / tau independent ones, tau being their correlation time (workloads/correlation.py). Where all were good, or none, the
flags show no correlation at all; therefore tau is the larger one of two series: the flags, and the strain, which is how much of its
tightest limit a request took. A queue that grows through the run has a tau of a quarter of the run, so such a run tells next to nothing
about a share that its last requests would contradict.

Bounds are Wilson's (Wilson 1927, doi:10.1080/01621459.1927.10502953), which hold for shares of 0 and 1 too, with Student's t of n / tau - 1
degrees in the place of the normal law, as tau is estimated and from few independent requests is estimated badly. Several runs of one load
are pooled; where their shares scatter more than independent requests would (another phase of the machine), they count for less by as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from workloads.correlation import correlation_time

Flags = npt.NDArray[np.bool_]
Strains = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodShare:
    """Requests that were good, of how many, and how many independent ones would tell as much."""

    good: int
    requests: int
    independent: float

    @classmethod
    def of(cls, good: Flags, strain: Strains) -> "GoodShare":
        """Of a run's requests in order of arrival. strain: latency over its limit, the largest of all limits; NaN: it failed."""
        alike = max(correlation_time(good.astype(np.float64)), correlation_time(strain))
        return cls(good=int(good.sum()), requests=len(good), independent=len(good) / alike)

    @classmethod
    def pooled(cls, runs: Sequence["GoodShare"]) -> "GoodShare":
        """Of all runs of one load together."""
        good, requests, independent = (sum(getattr(run, name) for run in runs) for name in ("good", "requests", "independent"))
        return cls(good=int(good), requests=int(requests), independent=independent / _scatter(runs, good / max(1, requests)))

    @property
    def value(self) -> float:
        """The share itself; of no requests 0."""
        return self.good / self.requests if self.requests else 0.0

    def bounds(self, chance: float) -> tuple[float, float]:
        """The lowest and the highest share that it may be of; either is wrong with this chance."""
        if not self.independent:
            return 0.0, 1.0
        from scipy.special import stdtrit  # here: scipy takes long to import

        n, p = self.independent, self.value
        z = float(stdtrit(max(1.0, n - 1), 1 - chance))
        middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - reach) / (1 + z * z / n)), min(1.0, (middle + reach) / (1 + z * z / n))

    def chance_above(self, wanted: float) -> float:
        """How likely the true share is `wanted` or more, from this alone: one more good and one more bad request keep it off 0 and 1."""
        p = (self.value * self.independent + 1) / (self.independent + 2)
        return NormalDist().cdf((p - wanted) / math.sqrt(p * (1 - p) / (self.independent + 2)))


def _scatter(runs: Sequence[GoodShare], share: float) -> float:
    """By how many times the runs' shares vary more than those of independent requests would (a chi-square over its degrees); at least 1."""
    if len(runs) < 2 or not 0 < share < 1:
        return 1.0
    squares = sum(run.independent * (run.value - share) ** 2 for run in runs) / (share * (1 - share))
    return max(1.0, squares / (len(runs) - 1))
