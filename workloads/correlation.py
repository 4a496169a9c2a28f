"""How much alike neighbouring requests are: those that stood in the same queue have much the same latency."""

import math

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def time_at(load: float | None) -> float:
    """The correlation time of a queue at this load (offered / capacity), in requests, whatever a run shows; 1 for None, and at least 1.

    2 rho (1 + rho) / (1 - rho)^2: the integrated autocorrelation time of the number of requests in an M/M/1 queue, in arrivals (its
    asymptotic variance over its variance; Whitt 1989, Planning queueing simulations, doi:10.1287/mnsc.35.11.1341). Infinite from load 1
    on, where latencies grow with the run.
    """
    if load is None:
        return 1.0
    return max(1.0, 2 * load * (1 + load) / (1 - load) ** 2) if load < 1 else math.inf


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


def _autocovariance(values: Values) -> Values:
    """The autocovariance at all lags from 0, each sum divided by n."""
    centred = values - values.mean()
    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 ** (2 * n - 1).bit_length())
    found: Values = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / n
    return found
