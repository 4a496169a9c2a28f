"""Wrapped: what StepTimes share that change the times of another one."""

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import StepLaw
from simulators.native.latency.step_time import StepTime


class Wrapped:
    """Most of a StepTime around `inner`; a wrapper adds `seconds` and `describe`. law: None, because a batch's sums alone do not determine
    its time.
    """

    law: StepLaw | None = None

    def __init__(self, inner: StepTime) -> None:
        self.inner = inner

    def note(self, works: NDArray[np.float64]) -> None:
        """See StepTime."""
        self.inner.note(works)
