"""What a model of step times is: a batch in, seconds out, and what it knows about its own error."""

from collections.abc import Mapping
from typing import Any, Protocol

from simulators.native.batch import Batch


class StepTime(Protocol):
    """One narrow seam. `measured.py` fits one to a profile, `roofline.py` computes one from the model's and the hardware's numbers."""

    def seconds(self, batch: Batch) -> float:
        """How long the device takes for a batch that is not empty."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON-able: its parameters, its uncertainty, and how often it was asked beyond what it knows."""
        ...
