"""Wrapped: what StepTimes have in common that change another one's."""

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import StepLaw
from simulators.native.latency.step_time import StepTime


class Wrapped:
    """Most of a StepTime around `inner`; a wrapper adds `seconds` and `describe`. law: None, as sums alone do not tell a batch's time."""

    law: StepLaw | None = None

    def __init__(self, inner: StepTime) -> None:
        self.inner = inner

    def note(self, works: NDArray[np.float64]) -> None:
        """See StepTime."""
        self.inner.note(works)
