"""Fit of factors to measured points: least squares of the logarithms of predicted over measured, robust, drawn to 1."""

from collections.abc import Collection, Sequence
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


def fit(points: Sequence[Prepared], names: Collection[str]) -> Factors:
    """The factors of these names with which the points are predicted best, the others 1; all 1, where there is no point.

    Raises ValueError for a name that is none.
    """
    known = [f.name for f in fields(Factors)]
    if unknown := set(names) - {*known}:
        raise ValueError(f"study.fitted: {', '.join(sorted(unknown))} is no factor; they are {', '.join(known)}")
    if not points or not names:
        return Factors()
    places = [known.index(name) for name in names]
    drawn_to_one = PRIOR * SCALE * np.sqrt(len(points) / len(known))

    def factors_of(free: NDArray[np.float64]) -> Factors:
        logs = np.zeros(len(known))
        logs[places] = free
        return Factors.from_logs(logs)

    def residuals(free: NDArray[np.float64]) -> NDArray[np.float64]:
        factors = factors_of(free)
        return np.concatenate([*(_residual(point, factors) for point in points), drawn_to_one * free])

    bound = np.log(MOST)
    found = least_squares(
        residuals,
        np.zeros(len(places)),
        bounds=(-bound, bound),
        loss="soft_l1",
        f_scale=SCALE,
        diff_step=np.full(len(places), 0.05),
        max_nfev=EVALUATIONS,
    )
    return factors_of(found.x)


def _residual(prepared: Prepared, factors: Factors) -> NDArray[np.float64]:
    figures, point = prepared.figures(factors), prepared.point
    return np.array([np.log(figures.tpot / point.tpot), TTFT_WEIGHT * np.log(figures.ttft / point.ttft)])
