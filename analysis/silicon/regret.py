"""Regret: what it costs to choose a configuration by a prediction. Of the measured configurations of one model, GPU and lengths of requests
(engine, precision, parallelism and concurrency are left to choose), the one that a predictor says has the most output tokens/s a GPU
within a bound on TPOT; held against the one that was measured to.

A choice that was measured beyond the bound serves nobody within it: it is a regret of 1. So is none at all where a measured one will do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

SAME = ("model", "gpu", "input_tokens", "output_tokens")
BOUNDS = (None, 20.0, 50.0, 100.0)  # least output tokens/s of a user; None: no bound
FEWEST = 3  # configurations to choose from, within the bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrets:
    """Of one predictor, a value a choice: the share of the best throughput a GPU that is lost."""

    predictor: str
    values: tuple[float, ...]
    missed: int  # of them, choices that were measured beyond the bound

    @property
    def median(self) -> float:
        """NaN where there is no choice."""
        return float(np.median(self.values)) if self.values else float("nan")

    @property
    def mean(self) -> float:
        """The same."""
        return float(np.mean(self.values)) if self.values else float("nan")


def regrets(frames: dict[str, pd.DataFrame], *, bounds: Sequence[float | None] = BOUNDS) -> list[Regrets]:
    """Of each predictor, over the points that all of them predict. frames: by predictor, rows of `scores.with_errors`, one a point."""
    shared = set.intersection(*({*frame["point_id"]} for frame in frames.values()))
    found = []
    for name, frame in frames.items():
        ordered = frame[frame["point_id"].isin(shared)].sort_values("point_id")
        choices = list(_choices(ordered, bounds))
        found.append(Regrets(predictor=name, values=tuple(v for v, _ in choices), missed=sum(late for _, late in choices)))
    return found


def _choices(frame: pd.DataFrame, bounds: Sequence[float | None]) -> Iterator[tuple[float, bool]]:
    """(regret, whether the choice was measured beyond the bound) of each group and bound that leaves enough to choose from."""
    for _, group in frame.groupby(list(SAME)):
        measured, predicted = (group[name].to_numpy(float) for name in ("measured_throughput", "throughput"))
        for bound in bounds:
            within, said = (_within(group[name], bound) for name in ("measured_tpot", "tpot"))
            if within.sum() < FEWEST:
                continue
            best = measured[within].max()
            if not said.any():
                yield 1.0, True
                continue
            chosen = int(np.argmax(np.where(said, predicted, -np.inf)))
            yield (1 - measured[chosen] / best, False) if within[chosen] else (1.0, True)


def _within(tpot: "pd.Series[float]", bound: float | None) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.ones(len(tpot), np.bool_) if bound is None else (1 / tpot.to_numpy(float)) >= bound
