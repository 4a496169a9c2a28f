"""What a model of step times is: a batch in, seconds out, and what it knows about its own error."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import StepLaw
from simulators.native.sequence import Batch


class StepTime(Protocol):
    """A model of step times. `measured.py` fits one to a profile, `roofline.py` computes one from numbers of model and hardware."""

    def seconds(self, batch: Batch) -> float:
        """How long the device takes for a batch that is not empty."""
        ...

    @property
    def law(self) -> StepLaw | None:
        """The same as numbers, for the compiled engine; None when a batch's sums do not determine its time."""
        ...

    def note(self, works: NDArray[np.float64]) -> None:
        """Count steps that were timed by `law`, for `describe`. works: a row per step, columns as in step_law.WORK."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-able: its parameters, its uncertainty, and how often it was asked beyond what it knows."""
        ...
