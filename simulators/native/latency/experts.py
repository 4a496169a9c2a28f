"""Experts: how many of them a step's tokens touch, and how long their grouped products take.

A token goes to expert i with a probability q_i; all q_i together are top_k. Of n tokens, n * q_i arrive there, and it is touched with the
probability 1 - (1 - q_i) ** n. q_i is the same for all (skew 0: what a balancing loss trains routers to), or falls as a Zipf law with the
expert's rank, at most 1. With expert parallelism rank i lives on device i modulo all of them, and a step takes as long as the busiest one:
the first, and beyond its mean what chance adds to the largest of n loads, in standard deviations the normal quantile of
(n - 3/8) / (n + 1/4) (Blom, Statistical estimates and transformed beta-variables, 1958).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulators.native.architecture.feed_forward import Experts


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Of one device. touched: experts that have a token, on average. pairs: tokens that they have in sum."""

    touched: float
    pairs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """skew: exponent of the Zipf law of the experts' popularity; 0: all alike."""

    skew: float = 0.0

    def __post_init__(self) -> None:
        if self.skew < 0:
            raise ValueError(f"routing.skew must be >= 0, got {self.skew}")

    def probabilities(self, experts: Experts) -> NDArray[np.float64]:
        """q_i, the most popular first."""
        popularity = np.arange(1.0, experts.count + 1) ** -self.skew
        probable = popularity * experts.top_k / popularity.sum()
        for certain in range(experts.top_k):
            if probable[certain] <= 1:
                break
            probable[certain] = 1.0  # every token goes there; the others share what is left
            rest = popularity[certain + 1 :]
            probable[certain + 1 :] = rest * (experts.top_k - certain - 1) / rest.sum()
        return np.asarray(probable)

    def busiest(self, experts: Experts, tokens: float, devices: int) -> Load:
        """What the busiest of so many devices has of `tokens` tokens."""
        mine = self.probabilities(experts)[::devices]
        pairs = tokens * float(mine.sum())
        if devices > 1:
            spread = tokens * float((mine * (1 - mine)).sum())
            beyond = NormalDist().inv_cdf((devices - 3 / 8) / (devices + 1 / 4)) * math.sqrt(spread)
            pairs = min(pairs + beyond, tokens * min(experts.top_k, len(mine)))
        touched = float((1 - (1 - mine) ** tokens).sum())
        return Load(touched=touched, pairs=pairs)
