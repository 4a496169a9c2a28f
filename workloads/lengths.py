"""Length distributions, in tokens. A draw is a whole number >= 1; an upper bound conditions the law, it never clips a draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri


class Lengths(Protocol):
    """A law of token counts."""

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """n independent draws, each >= 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Always `tokens`."""

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"Fixed.tokens must be >= 1, got {self.tokens}")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """N times `tokens`."""
        return np.full(n, self.tokens, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Lognormal:
    """X rounded to the nearest whole number, where X is lognormal, given that 0.5 <= X < most + 0.5 (most: no bound when None).

    Give X either by mean and cv (its standard deviation / mean) or by median and sigma (the standard deviation of log X): these are
    of X before the condition, which pulls the mean of the draws down when `most` cuts off much.
    """

    mean: float | None = None
    cv: float | None = None
    median: float | None = None
    sigma: float | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        by_mean, by_median = (self.mean, self.cv), (self.median, self.sigma)
        if (None in by_mean) == (None in by_median) or any(v is not None for v in (by_median if None not in by_mean else by_mean)):
            raise ValueError(f"Lognormal takes either mean and cv or median and sigma, got {self}")
        if not all(v is None or (math.isfinite(v) and v > 0) for v in (*by_mean, *by_median)):
            raise ValueError(f"Lognormal's mean, cv, median and sigma must be numbers > 0, got {self}")
        low, high = self._range()
        if (self.most is not None and self.most < 1) or high - low < 1e-6:
            raise ValueError(f"Lognormal has next to no probability between 1 and most, got {self}")

    def parameters(self) -> tuple[float, float]:
        """(mu, sigma) of log X."""
        if self.mean is not None and self.cv is not None:
            sigma = math.sqrt(math.log1p(self.cv**2))
            return math.log(self.mean) - sigma**2 / 2, sigma
        assert self.median is not None and self.sigma is not None
        return math.log(self.median), self.sigma

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """N independent draws, by the inverse of the conditioned distribution."""
        mu, sigma = self.parameters()
        low, high = self._range()
        x = np.exp(mu + sigma * ndtri(low + (high - low) * rng.random(n)))
        # the inverse may round onto the edge of the interval; the bounds below move such a draw by 1e-16 and cut nothing off
        return np.clip(np.floor(x + 0.5), 1, self.most).astype(np.int64)

    def _range(self) -> tuple[float, float]:
        """The probabilities of X < 0.5 and of X < most + 0.5."""
        mu, sigma = self.parameters()
        high = 1.0 if self.most is None else float(ndtr((math.log(self.most + 0.5) - mu) / sigma))
        return float(ndtr((math.log(0.5) - mu) / sigma)), high


@dataclass(frozen=True, kw_only=True)
class Empirical:
    """Draws with replacement from the `values` that are at most `most` (None: from all)."""

    values: Sequence[int]
    most: int | None = None

    def __post_init__(self) -> None:
        if any(v < 1 for v in self.values):
            raise ValueError(f"Empirical.values must all be >= 1, got {min(self.values)}")
        if not self._kept():
            raise ValueError(f"Empirical has no values up to most={self.most}")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """N independent draws."""
        return rng.choice(np.array(self._kept(), dtype=np.int64), n)

    def _kept(self) -> list[int]:
        return [v for v in self.values if self.most is None or v <= self.most]


def scaled(tokens: int, factor: float) -> int:
    """A real length made fit for a smaller engine: tokens * factor to the nearest whole number (halves up), but at least 1."""
    return max(1, math.floor(tokens * factor + 0.5))
