"""How much a run of requests that are alike can tell: their correlation time, and the series whose correlation an error has.

Near saturation a request's latency is much like its neighbours': they stood in the same queue. Then n requests tell no more than
n / (correlation time) independent ones would. A short run often does not show how much alike its requests are: it may have seen no busy
stretch at all. So the correlation time is also computed from the run's load, where that is known.
"""

import math

import numpy as np

from analysis.stats import QUANTILES, Values

BLOCKS = 8  # in a run, each as long as an eighth of it
HIDDEN = 1 / 6  # of the variance that blocks show, at most, they may hide: blocks are three correlation times long, or there is no interval
BEYOND = 3  # independent requests at least beyond a quantile: of fewer, in one run of 20 (exp(-3)) none is, and nothing bounds it


def time_at(load: float | None) -> float:
    """The correlation time of a queue at this load (offered / capacity), in requests, whatever a run shows; 1 for None, and at least 1.

    2 rho (1 + rho) / (1 - rho)^2: the integrated autocorrelation time of the number of requests in an M/M/1 queue, in arrivals (its
    asymptotic variance over its variance; Whitt 1989, Planning queueing simulations, doi:10.1287/mnsc.35.11.1341). Infinite from load 1
    on, where latencies grow with the run.
    """
    if load is None:
        return 1.0
    return max(1.0, 2 * load * (1 + load) / (1 - load) ** 2) if load < 1 else math.inf


def enough(n: int, load: float | None) -> list[bool]:
    """Whether n requests at this load can have an interval: for their mean and each of QUANTILES. For a mean, which hangs on rare long
    queues, blocks are six correlation times long; beyond a quantile lie BEYOND independent requests.
    """
    long = 2 * hidden(time_at(load), max(1.0, n / BLOCKS)) <= HIDDEN
    return [long, *(fewest(q, load) <= n for q in QUANTILES)]


def fewest(q: float, load: float | None) -> float:
    """The fewest requests at this load for which quantile q can have an interval."""
    return round(BEYOND * time_at(load) / min(q, 1 - q), 6)


def correlation_time(series: Values) -> float:
    """How many values of a series, in order of time, say as much about its mean as one independent value does; at least 1.

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
    """The variance of a mean that blocks do not show, over the variance that they show: values are alike across the ends of blocks, too.

    time: the series' correlation time. block: mean length of the stationary bootstrap's blocks. They weigh lag k by (1 - 1 / block)^k
    (Politis and Romano 1994, section 3), so of a correlation that fades exponentially they show 1 / (1 + (time - 1) / (2 block)).
    """
    return (time - 1) / (2 * block)


def error_series(measured: Values, simulated: Values) -> Values:
    """By request, what the error of a mean or a sum varies with: simulated - R * measured, R = sum(simulated) / sum(measured).

    To first order the error, R - 1, varies as the mean of this series does (the ratio estimator; Cochran 1977, Sampling Techniques, ch. 6).
    So a simulator that follows the measured queue has errors that are less alike than the latencies are. NaN where one of the two is NaN.
    """
    both = np.isfinite(measured) & np.isfinite(simulated)
    total = float(measured[both].sum())
    scaled = measured * (float(simulated[both].sum()) / total if total > 0 else 0.0)
    series = simulated - scaled
    series[np.abs(series) <= 1e-9 * np.abs(scaled)] = 0.0  # no more than rounding errors
    return series


def _autocovariance(values: Values) -> Values:
    """The autocovariance at all lags from 0, each sum divided by n."""
    centred = values - values.mean()
    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 ** (2 * n - 1).bit_length())
    found: Values = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / n
    return found
