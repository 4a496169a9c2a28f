"""Swapping: the time that KV takes to and from host memory, on top of a step."""

from collections.abc import Mapping
from typing import Any

from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.sequence import Batch


class Swapping(Wrapped):
    """A StepTime: that of another one, plus the time of the step's swapped tokens over the link (vLLM 0.4 blocks the step on its copies).

    seconds_per_token: bytes of a token's KV over the bytes/s of one direction of the link to the host.
    """

    def __init__(self, inner: StepTime, *, seconds_per_token: float) -> None:
        if seconds_per_token < 0:
            raise ValueError(f"seconds_per_token must be >= 0, got {seconds_per_token}")
        super().__init__(inner)
        self.seconds_per_token = seconds_per_token

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        return self.inner.seconds(batch) + batch.swapped * self.seconds_per_token

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {**self.inner.describe(), "swap_s_per_token": self.seconds_per_token}
