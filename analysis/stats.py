"""The statistics of a fidelity study, on plain arrays. Values are seconds or any other unit; NaN is a value that does not exist.

resampling.py has their intervals, blocks.py how the resamples are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

STATS = ("mean", "p50", "p90", "p95", "p99")
QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How intervals are made. resamples: number of them. confidence: of the two-sided interval. seed: the same seed, the same interval."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise ValueError(f"bootstrap.resamples must be >= 100, got {self.resamples}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"bootstrap.confidence must be between 0 and 1, got {self.confidence}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and its confidence interval; None: undefined (nothing to compare, a measured value of 0, fewer than two requests)."""

    value: float | None
    low: float | None = None
    high: float | None = None


def describe(values: Values) -> Values:
    """Mean and the quantiles of QUANTILES along the last axis, NaNs left out: shape (..., n) -> (5, ...), in the order of STATS.

    Quantile q of n sorted values interpolates linearly at position (n - 1) q (Hyndman and Fan 1996, type 7; numpy's default and
    DuckDB's quantile_cont). NaN where there is no value.
    """
    if values.shape[-1] == 0:
        return np.full((len(STATS), *values.shape[:-1]), np.nan)
    ordered = np.sort(values, axis=-1)  # NaNs come last
    count = np.sum(~np.isnan(ordered), axis=-1)
    with np.errstate(invalid="ignore"):
        rows = [np.nansum(ordered, axis=-1) / count]
    for q in QUANTILES:
        position = np.maximum(count - 1, 0) * q
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        low, high = (np.take_along_axis(ordered, i[..., None], axis=-1)[..., 0] for i in (below, above))
        rows.append(low + (high - low) * (position - below))
    return np.stack(rows)


def relative_errors(measured: Values, simulated: Values) -> Values:
    """|simulated - measured| / measured of each request, NaN where one of the two has no value or the measured one is not above 0.

    Their mean is MAPE: how far off single requests are, whether or not their errors cancel.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(measured > 0, np.abs(simulated - measured) / measured, np.nan)


def ks_distance(measured: Values, simulated: Values) -> float | None:
    """Kolmogorov-Smirnov distance: the largest gap between the two distribution functions, 0 to 1; None when one is empty."""
    one, other = _present(measured), _present(simulated)
    if not len(one) or not len(other):
        return None
    at = np.concatenate([one, other])  # scipy's ks_2samp computes a p-value, too, which takes ten times as long
    shares = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def wasserstein_distance(measured: Values, simulated: Values) -> float | None:
    """Wasserstein-1 distance: the mean shift that turns one distribution into the other, in the values' unit; None when one is empty."""
    one, other = _present(measured), _present(simulated)
    return float(stats.wasserstein_distance(one, other)) if len(one) and len(other) else None


def relative_spread(repeats: Sequence[float]) -> float | None:
    """Noise floor of a statistic: its relative standard deviation over repeats of one run, s / mean with s over n - 1.

    A simulator whose error is near this cannot be told from another real run. None for fewer than two repeats, or a mean of 0.
    """
    if len(repeats) < 2 or not np.mean(repeats):
        return None
    return float(np.std(repeats, ddof=1) / np.mean(repeats))


def _present(values: Values) -> Values:
    return values[~np.isnan(values)]


def known(value: float) -> float | None:
    """The number; None when it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None
