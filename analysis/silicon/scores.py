"""Errors of predicted points: predicted over measured, less one.

The throughput of a measured point is not in the sample. It follows from its two times (Little's law): in flight over the time of a request.
The prediction's follows from its own times in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

METRICS = ("tpot", "ttft", "throughput")
ENGINES = ("vllm", "sglang")  # whose points are scored; another engine's are apart
NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointScore:
    """Errors of one metric over points. Shares, not per cent."""

    points: int
    mean: float  # of the errors' sizes: the MAPE
    median: float  # of the errors' sizes
    signed: float  # median of the signed errors
    within_20: float  # share of points within 20 %


def with_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a prediction, with measured_throughput (tokens/s/GPU) and error_METRIC of each metric."""
    found = frame[frame["reason"].isna()].copy()
    answer = answer_tokens(found)
    found["measured_throughput"] = throughput(found, found["measured_ttft"], found["measured_tpot"], answer)
    found["throughput"] = throughput(found, found["ttft"], found["tpot"], answer)
    for metric in METRICS:
        found[f"error_{metric}"] = found[metric] / found[f"measured_{metric}"] - 1
    return found


def answer_tokens(frame: pd.DataFrame) -> pd.Series:
    """Mean tokens of an answer: uniform from 0.8 of the longest to the longest in a closed loop, else the longest."""
    return frame["output_tokens"] * np.where(frame["loop"] == "closed", 0.9, 1.0)


def throughput(frame: pd.DataFrame, ttft: pd.Series, tpot: pd.Series, answer: pd.Series) -> pd.Series:
    """Output tokens/s/GPU of a closed loop."""
    return frame["concurrency"] * answer / (ttft + tpot * (answer - 1)) / frame["devices"]


def score(frame: pd.DataFrame, metric: str) -> PointScore | None:
    """Over all rows of a frame of `with_errors`; None: there is no row."""
    errors = frame[f"error_{metric}"].to_numpy(float)
    if not len(errors):
        return None
    size = np.abs(errors)
    return PointScore(
        points=len(errors),
        mean=float(size.mean()),
        median=float(np.median(size)),
        signed=float(np.median(errors)),
        within_20=float((size <= 0.2).mean()),
    )


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that count: vLLM's and SGLang's, with a stated concurrency."""
    return frame[frame["engine"].isin(ENGINES) & (frame["loop"] == "closed")]


def held_out(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose efficiencies were fitted on the other half of the models."""
    return frame[(frame["fitted_on"] != "") & frame["held_out"]]


def concurrency_band(concurrency: pd.Series) -> pd.Series:
    """In words: 1-8, 9-32, 33-128, more."""
    return pd.cut(concurrency, [0, 8, 32, 128, np.inf], labels=["1 to 8", "9 to 32", "33 to 128", "over 128"]).astype(str)


def reasons(frame: pd.DataFrame, predictor: str) -> pd.DataFrame:
    """Points that were not predicted, by kind of reason: reason (numbers of the first stand for all), points, rows of the sample."""
    lost = frame[(frame["predictor"] == predictor) & (frame["fitted_on"] == "") & frame["reason"].notna()]
    kind = lost["reason"].str.replace(NUMBER, "N", regex=True)
    grouped = lost.groupby(kind, sort=False).agg(reason=("reason", "first"), points=("reason", "size"), rows=("rows", "sum"))
    return grouped.sort_values("points", ascending=False).reset_index(drop=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Pairs of configurations whose measured throughput differs, and how many of them a predictor orders right."""

    pairs: int
    right: int

    @property
    def share(self) -> float | None:
        """Of the pairs; None: there is none."""
        return self.right / self.pairs if self.pairs else None


SAME = ("model", "gpu", "devices")
SAME_LOAD = (*SAME, "input_tokens", "output_tokens", "concurrency")  # what is left to choose: engine, precision, parallelism, version
LEAST_DIFFERENCE = 1.1  # of the throughputs of a pair, the larger over the smaller


def ordering(frame: pd.DataFrame, same: Sequence[str] = SAME) -> Ordering:
    """Over all pairs of points of the same model, GPU and GPU count whose measured throughputs per GPU differ by 10 % and more."""
    pairs = right = 0
    for _, group in frame.groupby(list(same)):
        measured, predicted = (np.log(group[name].to_numpy(float)) for name in ("measured_throughput", "throughput"))
        first, second = np.triu_indices(len(group), 1)
        apart = measured[first] - measured[second]
        counts = np.abs(apart) >= np.log(LEAST_DIFFERENCE)
        pairs += int(counts.sum())
        right += int((np.sign(apart) == np.sign(predicted[first] - predicted[second]))[counts].sum())
    return Ordering(pairs=pairs, right=right)
