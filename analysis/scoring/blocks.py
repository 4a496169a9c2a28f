"""How much a run of requests that are alike can tell: their correlation time, and the series whose correlation an error has.

Near saturation a request's latency is much like its neighbours': they stood in the same queue. Then n requests tell no more than
n / (correlation time) independent ones would. A short run often does not show how much alike its requests are: it may have seen no busy
stretch at all. So the correlation time is also computed from the run's load, where that is known.
"""

import numpy as np

from analysis.stats import QUANTILES, Values
from workloads.correlation import time_at

BLOCKS = 8  # in a run, each as long as an eighth of it
HIDDEN = 1 / 6  # of the variance that blocks show, at most, they may hide: blocks are three correlation times long, or there is no interval
BEYOND = 3  # independent requests at least beyond a quantile: of fewer, in one run of 20 (exp(-3)) none is, and nothing bounds it


def enough(n: int, load: float | None) -> list[bool]:
    """Whether n requests at this load can have an interval: for their mean and each of QUANTILES. For a mean, which hangs on rare long
    queues, blocks are six correlation times long; beyond a quantile lie BEYOND independent requests.
    """
    long = 2 * hidden(time_at(load), max(1.0, n / BLOCKS)) <= HIDDEN
    return [long, *(fewest(q, load) <= n for q in QUANTILES)]


def fewest(q: float, load: float | None) -> float:
    """The fewest requests at this load for which quantile q can have an interval."""
    return round(BEYOND * time_at(load) / min(q, 1 - q), 6)


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
