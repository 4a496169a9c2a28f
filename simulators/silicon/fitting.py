"""Fit of factors to measured points: least squares of the logarithms of predicted over measured, robust, drawn to 1."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulators.silicon.factors import MOST, Factors
from simulators.silicon.prepared import Prepared

TTFT_WEIGHT = 0.5  # of a TTFT's residual beside a TPOT's
PRIOR = 2.0  # weight of a factor's logarithm beside the mean residual, in units of SCALE: what the points do not tell stays 1
SCALE = 0.15  # residuals beyond it count linearly (soft_l1)
EVALUATIONS = 6  # steps of the search at most


def fit(points: Sequence[Prepared]) -> Factors:
    """The factors with which these points are predicted best; as they are, where there is no point."""
    if not points:
        return Factors()
    count = len(fields(Factors))

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        factors = Factors.from_logs(logs)
        return np.concatenate([*(_residual(point, factors) for point in points), PRIOR * np.sqrt(len(points) / count) * logs * SCALE])

    bound = np.log(MOST)
    found = least_squares(
        residuals,
        np.zeros(count),
        bounds=(-bound, bound),
        loss="soft_l1",
        f_scale=SCALE,
        diff_step=np.full(count, 0.05),
        max_nfev=EVALUATIONS,
    )
    return Factors.from_logs(found.x)


def _residual(prepared: Prepared, factors: Factors) -> NDArray[np.float64]:
    figures, point = prepared.figures(factors), prepared.point
    return np.array([np.log(figures.tpot / point.tpot), TTFT_WEIGHT * np.log(figures.ttft / point.ttft)])
