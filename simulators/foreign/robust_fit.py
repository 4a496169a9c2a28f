"""Fits of step times that a few wild points do not bend."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SPREAD = 0.05  # error beyond which a point counts ever less in a fit


def robust_fit(design: Floats, seconds: Floats) -> tuple[Floats, float]:
    """(coefficients >= 0 with the least errors, wild points counting little; what is left of those).

    An error is the logarithm of predicted over measured: twice as long is as bad as half as long.
    """
    from scipy.optimize import least_squares  # here: scipy takes long to import, and few commands come this far

    scale, timed = np.maximum(design.max(axis=0), 1e-12), seconds > 0
    rows, goal = (design / scale)[timed], np.log(seconds[timed])

    def errors(x: Floats) -> Floats:
        return np.asarray(np.log(rows @ x) - goal)

    def slopes(x: Floats) -> Floats:

        return np.asarray(rows / (rows @ x)[:, None])

    x = np.full(design.shape[1], float(np.median(seconds)) / 3)
    for loss in ("soft_l1", "cauchy"):  # the second forgets wild points, but needs to start near
        found = least_squares(
            errors, x0=x, jac=slopes, bounds=(0, np.inf), loss=loss, f_scale=SPREAD, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        x = found.x
    return np.asarray(x / scale, float), float(found.cost)
