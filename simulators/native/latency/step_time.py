"""What a model of step times is: a batch in, seconds out, and what it knows about its own error."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import StepLaw
from simulators.native.sequence import Batch


class StepTime(Protocol):
    """One narrow seam. `measured.py` fits one to a profile, `roofline.py` computes one from the model's and the hardware's numbers."""

    def seconds(self, batch: Batch) -> float:
        """How long the device takes for a batch that is not empty."""
        ...

    @property
    def law(self) -> StepLaw | None:
        """The same as numbers, for the compiled engine; None when a batch's sums do not tell its time."""
        ...

    def note(self, works: NDArray[np.float64]) -> None:
        """Steps were timed by `law`: their work, one row each, columns as in step_law.WORK. For `describe`."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-able: its parameters, its uncertainty, and how often it was asked beyond what it knows."""
        ...
