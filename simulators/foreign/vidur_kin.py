"""What Vidur and the simulators made from it have in common: their random forests, and the times that they tell of each request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workloads.trace import Request

TOLERANCE = 1e-6  # s between two files' accounts of one request


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """How their random forests are trained; only with one thread does one seed give one result."""

    n_estimators: int
    max_depth: int
    min_samples_split: int
    k_fold: int
    threads: int

    def settings(self) -> dict[str, Any]:
        """In their words."""
        return {
            "num_estimators": self.n_estimators,
            "max_depth": self.max_depth,
            "min_samples_split": self.min_samples_split,
            "k_fold_cv_splits": self.k_fold,
            "num_training_job_threads": self.threads,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """One request's times, in s after its arrival, and how often it was preempted."""

    delay: float
    ttft: float
    e2e: float
    preemptions: int


def agree(times: Sequence[float], request: Request, first: float, finished: float) -> bool:
    """Whether the ends of steps are as many as the request's tokens, and begin and end where request_metrics.csv says."""
    return len(times) == request.output_tokens and abs(times[0] - first) < TOLERANCE and abs(times[-1] - finished) < TOLERANCE


def with_ends(times: Sequence[float], first: float, finished: float) -> list[float]:
    """The token times with their two ends to the last bit those of request_metrics.csv."""
    return [first] if len(times) == 1 else [first, *times[1:-1], finished]
