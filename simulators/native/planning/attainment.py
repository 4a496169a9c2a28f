"""Attainment: the share of the requests that meet the SLO at one rate, and how far it may be off.

A run of n requests in a queue tells less than n independent ones. Its requests, in order of arrival, are cut into batches; the scatter of
the batches' shares is the share's error (batch means: Law, Simulation Modeling and Analysis, section 9.5.3; 10 to 30 batches by Schmeiser
1982, doi:10.1287/opre.30.3.556). A run may be too short for the queue that it would see in the long run, and then its batches are alike
and wrong together. Two things are known of it even so: the load that its requests really brought, which is off that of their law, and how
long a queue that grows takes to make somebody late.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.record import SLO
from workloads.trace import Columns

WARM_UP = 0.2  # of the requests, the first, which find a queue that is still building up
BATCHES = 20
FEWEST_IN_BATCH = 20  # requests
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """The share at one rate."""

    share: float  # of the requests after the warm-up
    error: float  # half the width of its interval at CONFIDENCE
    load_error: float  # of the load, see `load_error`
    unseen: float  # load beyond what is served, a share of it, that would make nobody late in so short a run, see `unseen`
    in_flight: float  # requests under way, on average
    requests: int  # that arrived, the warm-up's included

    @classmethod
    def of(cls, good: npt.NDArray[np.bool_], *, in_flight: float, load_error: float, unseen: float) -> "Attainment":
        """good: by request, in order of arrival."""
        counted = good[int(WARM_UP * len(good)) :].astype(np.float64)
        number = _batches(len(counted))
        means = np.array([batch.mean() for batch in np.array_split(counted, number)])
        return cls(
            share=float(counted.mean()),
            error=_student(number) * float(means.std(ddof=1)) / math.sqrt(number),
            load_error=load_error,
            unseen=unseen,
            in_flight=in_flight,
            requests=len(good),
        )


def load_error(asked: Columns) -> float:
    """How far the load of these requests may be off that of their law: half the width of its interval at CONFIDENCE, a share of it.

    The load is tokens/s, of prompts or of answers, whichever is less sure. It is a ratio of two means, so what scatters from batch to
    batch is the tokens less what that ratio has of the time (Cochran 1977, Sampling Techniques, chapter 6).
    """
    first, last = int(WARM_UP * len(asked.arrival)), len(asked.arrival) - 1
    number = _batches(last - first)
    ends = np.linspace(first, last, number + 1).astype(np.int64)
    seconds = np.diff(asked.arrival[ends])
    if not seconds.sum() > 0:
        return 0.0
    return max(_ratio_error(np.add.reduceat(tokens[:last], ends[:-1]), seconds) for tokens in (asked.input_tokens, asked.output_tokens))


def unseen(slo: SLO, seconds: float) -> float:
    """Load beyond what is served, a share of it, that makes nobody late in a run of so many seconds: with it the time that the newest
    waits grows by that share of the time that has passed, and reaches the limit of the TTFT (or of the whole) at the run's end.
    """
    limits = [limit for limit in (slo.ttft, slo.e2e) if limit is not None]
    return min(limits, default=0.0) / seconds if seconds > 0 else 0.0


def _ratio_error(tokens: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64]) -> float:
    """By batch."""
    off = tokens - tokens.sum() / seconds.sum() * seconds
    spread = float(off.std(ddof=1) / tokens.mean())
    return _student(len(tokens)) * spread / math.sqrt(len(tokens))


def _batches(requests: int) -> int:
    return int(np.clip(requests // FEWEST_IN_BATCH, 2, BATCHES))


def _student(batches: int) -> float:
    """The factor of a standard error of so many batches."""
    from scipy.special import stdtrit  # here: a plan that asks for no capacity need not wait for it

    return float(stdtrit(batches - 1, (1 + CONFIDENCE) / 2))
