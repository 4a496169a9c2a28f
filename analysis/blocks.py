"""How long the blocks of a block bootstrap must be: from the autocorrelation of what is resampled.

Near saturation a request's latency is much like its neighbours': they stood in the same queue. Then n requests tell less than n
independent ones would, and a bootstrap that draws requests one by one gives intervals that are too narrow.
"""

import math
from collections.abc import Iterable

import numpy as np

from analysis.stats import Values

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # rounded up to these: runs then share their resamples


def optimal_length(series: Values) -> float:
    """Mean block length for the stationary bootstrap of the mean of a series, which is in order of time.

    Politis and White 2004 (doi:10.1081/ETC-120028836) with the correction of Patton, Politis and White 2009
    (doi:10.1080/07474930802459016): b = (2 g^2 / D)^(1/3) n^(1/3), with g = sum of w(k/M) |k| R(k) and D = 2 (sum of w(k/M) R(k))^2 over
    lags -M to M, R the autocovariance and w their flat-top window. M is twice the first lag behind which K autocorrelations in a row
    are insignificant. At least 1, at most min(3 sqrt(n), n / 3). NaNs are left out; 1 for fewer than 8 values or a constant.
    """
    values = series[np.isfinite(series)]
    n = len(values)
    if n < 8 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return 1.0
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    needed = max(5, int(math.log10(n)))
    lags = min(math.ceil(math.sqrt(n)) + needed, n - 1)
    covariance = _autocovariance(values, lags)
    small = np.abs(covariance[1:] / covariance[0]) < 2 * math.sqrt(math.log10(n) / n)
    runs = np.convolve(small, np.ones(needed), mode="valid") == needed  # runs[i]: lags i + 1 to i + needed are all insignificant
    cut = int(np.argmax(runs)) if runs.any() else lags
    width = min(2 * max(cut, 1), lags)
    lag = np.arange(1, width + 1)
    window = np.clip(2 * (1 - lag / width), 0, 1)
    g = 2 * np.sum(window * lag * covariance[1 : width + 1])
    spectrum = covariance[0] + 2 * np.sum(window * covariance[1 : width + 1])
    if spectrum <= 0:  # more regular than independent values: drawing them one by one errs on the safe side
        return 1.0
    length = (g**2 / spectrum**2) ** (1 / 3) * n ** (1 / 3)
    return float(np.clip(length, 1, longest))


def paired_length(pairs: Iterable[tuple[Values, Values]]) -> int:
    """One block length for the errors of several quantities, each given as (measured, simulated) by request in order of arrival.

    To first order the error of a mean, R - 1 with R = mean(simulated) / mean(measured), varies as the mean of simulated - R * measured
    does (the ratio estimator; Cochran 1977, Sampling Techniques, ch. 6): blocks as long as that series needs. The longest of all, rounded
    up to one of LENGTHS.
    """
    longest = 1.0
    for measured, simulated in pairs:
        both = np.isfinite(measured) & np.isfinite(simulated)
        total = float(measured[both].sum())
        if total > 0:
            ratio = float(simulated[both].sum()) / total
            longest = max(longest, optimal_length(simulated[both] - ratio * measured[both]))
    return next((length for length in LENGTHS if length >= round(longest, 6)), LENGTHS[-1])


def _autocovariance(values: Values, lags: int) -> Values:
    """R(0) to R(lags), divided by n each."""
    centred = values - values.mean()
    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 * n)
    found: Values = np.fft.irfft(np.abs(spectrum) ** 2)[: lags + 1] / n
    return found
