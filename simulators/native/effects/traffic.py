"""Weights and KV in host memory: what a step fetches over the link to the host, hidden behind its computing or not."""

from collections.abc import Mapping
from typing import Any

from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.sequence import Batch


class HostTraffic(Wrapped):
    """A StepTime: that of another one, with the fetching of what lies in host memory (FlexGen, ICML 2023, sections 3 and 4).

    weights: seconds a step (each weight is fetched once). kv_token: seconds a token of decode context. overlap: the next layer is fetched
    while one is computed, so a step takes the longer of both; else their sum.
    """

    def __init__(self, inner: StepTime, *, weights: float, kv_token: float, overlap: bool) -> None:
        super().__init__(inner)
        self.weights, self.kv_token, self.overlap = weights, kv_token, overlap

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        computing, fetching = self.inner.seconds(batch), self.weights + self.kv_token * batch.decode_context
        return max(computing, fetching) if self.overlap else computing + fetching

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        told = {"weights_s_per_step": self.weights, "kv_s_per_token": self.kv_token, "overlap": self.overlap}
        return {**self.inner.describe(), "host_traffic": told}
