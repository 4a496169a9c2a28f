"""Arrival processes: times in seconds from the trace's start, ascending. Exact laws: no gap is clipped, no total rescaled.

A drawn time is rounded to the nanosecond, so that the last bit of a machine's math library does not change a trace's sha256.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workloads.trace import TraceError

Times = NDArray[np.float64]
Process = Literal["poisson", "gamma", "constant"]
PROCESSES = ("poisson", "gamma", "constant")


def poisson(rng: np.random.Generator, rate: float, n: int) -> Times:
    """n arrivals of a Poisson process of `rate` per second: independent exponential gaps, the first one before the first arrival."""
    return _nanoseconds(np.cumsum(rng.exponential(1 / rate, n)))


def gamma(rng: np.random.Generator, rate: float, n: int, burstiness: float) -> Times:
    """n arrivals with independent gamma gaps of mean 1/rate and shape `burstiness`, as in vLLM's bench (without its final rescaling).

    The gaps' coefficient of variation is burstiness ** -0.5: 1 is Poisson, below 1 bursty, above 1 more regular.
    """
    return _nanoseconds(np.cumsum(rng.gamma(burstiness, 1 / (rate * burstiness), n)))


def constant(rate: float, n: int) -> Times:
    """n arrivals every 1/rate seconds, the first at 0."""
    return np.arange(n) / rate


def draw(rng: np.random.Generator, process: str, rate: float, n: int, burstiness: float = 1.0) -> Times:
    """n arrivals of the named process; an infinite rate puts all at 0 s. One seed gives the same pattern at every rate, only denser."""
    if np.isinf(rate):
        return np.zeros(n)
    if process == "poisson":
        return poisson(rng, rate, n)
    if process == "gamma":
        return gamma(rng, rate, n, burstiness)
    if process == "constant":
        return constant(rate, n)
    raise ValueError(f"no arrival process is called {process!r}; there are {', '.join(PROCESSES)}")


def scale_to_rate(times: Times, rate: float) -> Times:
    """The same pattern, stretched about second 0 so that its mean rate (n - 1) / (last - first) is `rate` per second.

    Raises ValueError when the times have no rate of their own (all at one instant).
    """
    span = float(times.max() - times.min())
    if np.isinf(rate):
        return np.zeros(len(times))
    if span <= 0:
        raise ValueError("its arrivals are all at one instant, so they cannot be scaled to a rate")
    return times * ((len(times) - 1) / span / rate)


def spread(rng: np.random.Generator, times: Times, tick: float) -> Times:
    """Each time moved forward by an independent uniform share of `tick` seconds: undoes a clock that recorded whole ticks only.

    The order of the input is kept, not sorted: element i is the new time of request i.
    """
    return _nanoseconds(times + tick * rng.random(len(times)))


def check_process(process: str, burstiness: float) -> None:
    """Raise ValueError, naming the setting, unless they describe one of the processes."""
    if process not in PROCESSES:
        raise ValueError(f"workload.arrivals must be one of {', '.join(PROCESSES)}, got {process!r}")
    if not (np.isfinite(burstiness) and burstiness > 0):
        raise ValueError(f"workload.burstiness must be a number > 0, got {burstiness}")


def check_laws(process: str, burstiness: float, rate: float | None, num_requests: int) -> None:
    """Raise ValueError, naming the setting, unless these are what a workload from laws can be asked for. rate: None: it has none."""
    check_process(process, burstiness)
    if rate is not None:
        check_rate(rate)
    if num_requests < 1:
        raise ValueError(f"workload.num_requests must be >= 1, got {num_requests}")


def asked_rate(workload: str, own: float | None, asked: float | None, num_requests: int) -> float:
    """The rate, requests/s, of a trace that a workload of this name is asked for; its own where none is. Raises TraceError, ValueError."""
    rate = own if asked is None else asked
    if rate is None:
        how = "rate=... in a plan, load.rate or workload.rate in a bench"
        raise TraceError(f"workload {workload}: it has no times of its own; give it a rate (requests/s): {how}")
    check_rate(rate)
    if num_requests < 1:
        raise TraceError(f"workload {workload}: num_requests must be >= 1, got {num_requests}")
    return rate


def generators(seed: int, n: int) -> list[np.random.Generator]:
    """Independent streams of one seed: what one law draws does not move another's draws."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n)]


def check_rate(rate: float) -> None:
    """Raise ValueError unless `rate` is a number of requests per second above 0, or inf."""
    if not rate > 0:
        raise ValueError(f"the request rate must be > 0 requests/s (inf: all at once), got {rate}")


def _nanoseconds(times: Times) -> Times:
    return np.round(times, 9)
