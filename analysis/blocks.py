"""How much a run of requests that are alike can tell: their correlation time, and the series whose correlation an error has.

Near saturation a request's latency is much like its neighbours': they stood in the same queue. Then n requests tell no more than
n / (correlation time) independent ones would.
"""

import numpy as np

from analysis.stats import Values

BLOCKS = 8  # of a run, each as long as an eighth of it
HIDDEN = 1 / 6  # of the variance that blocks show, at most, they may hide: blocks are three correlation times long, or there is no interval


def correlation_time(series: Values) -> float:
    """How many values of a series, which is in order of time, tell as much about its mean as one independent value does; at least 1.

    tau = 1 + 2 (r(1) + r(2) + ...), the integrated autocorrelation time, r the autocorrelation. The sum ends by Geyer's initial monotone
    sequence (Geyer 1992, Practical Markov chain Monte Carlo, doi:10.1214/ss/1177011137, section 3.3): lags are taken in pairs, r(2k) +
    r(2k + 1), as long as a pair is positive, and none counts for more than the one before. NaNs are left out; 1 for fewer than 4 values
    or a constant.
    """
    values = series[np.isfinite(series)]
    if len(values) < 4 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return 1.0
    covariance = _autocovariance(values)
    even = len(covariance) // 2 * 2
    pairs = covariance[:even:2] + covariance[1:even:2]
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0] if len(ends) else None])
    return max(1.0, float(2 * pairs.sum() / covariance[0] - 1))


def hidden(time: float, block: float) -> float:
    """How much variance of a mean blocks do not show, over what they do: what is alike across their ends.

    time: the series' correlation time. block: mean length of the stationary bootstrap's blocks. They weigh lag k by (1 - 1 / block)^k
    (Politis and Romano 1994, section 3), so of a correlation that fades exponentially they show 1 / (1 + (time - 1) / (2 block)).
    """
    return (time - 1) / (2 * block)


def error_series(measured: Values, simulated: Values) -> Values:
    """By request, what the error of a mean or a sum varies with: simulated - R * measured, R = sum(simulated) / sum(measured).

    To first order the error, R - 1, varies as the mean of this series does (the ratio estimator; Cochran 1977, Sampling Techniques, ch. 6).
    So a simulator that follows the measured queue has errors that are less alike than the latencies are. NaN where one of both is.
    """
    both = np.isfinite(measured) & np.isfinite(simulated)
    total = float(measured[both].sum())
    scaled = measured * (float(simulated[both].sum()) / total if total > 0 else 0.0)
    series = simulated - scaled
    series[np.abs(series) <= 1e-9 * np.abs(scaled)] = 0.0  # what rounding left
    return series


def _autocovariance(values: Values) -> Values:
    """Of all lags from 0, divided by n each."""
    centred = values - values.mean()
    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 ** (2 * n - 1).bit_length())
    found: Values = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / n
    return found
