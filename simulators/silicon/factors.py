"""Factors: what is fitted of the roofline's numbers, one number each for all GPUs, and by engine."""

from dataclasses import astuple, dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.host import Host

MOST = 4.0  # a factor is within 1 / MOST and MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """On numbers of Efficiency and Host; 1: as they are. Shares stay at most 1."""

    gemm_flops: float = 1.0  # on the share of the peak FLOP/s in matrix products
    gemm_bytes: float = 1.0  # on the share of the memory bandwidth in matrix products
    attention_flops: float = 1.0  # on the share of the peak FLOP/s in attention
    attention_bytes: float = 1.0  # on the share of the memory bandwidth in attention
    link: float = 1.0  # on the share of the link's bandwidth in collectives
    all_reduce: float = 1.0  # on the latency of collectives
    layer: float = 1.0  # on the fixed cost of a layer
    host: float = 1.0  # on what the host spends in a step
    launch: float = 1.0  # on what it takes to launch the kernels of a step with prompts
    front: float = 1.0  # on what a request spends outside the engine

    def efficiency(self, given: Efficiency) -> Efficiency:
        """The roofline's numbers with these factors."""
        shares = {name: min(1.0, getattr(given, name) * getattr(self, name)) for name in SHARES}
        return replace(given, all_reduce=given.all_reduce * self.all_reduce, layer=given.layer * self.layer, **shares)

    def on_host(self, given: Host | None) -> Host | None:
        """The host's costs with these factors."""
        if given is None:
            return None
        return replace(
            given,
            step=given.step * self.host,
            sequence=given.sequence * self.host,
            gap=given.gap * self.host,
            launch_piecewise=given.launch_piecewise * self.launch,
        )

    @classmethod
    def from_logs(cls, logs: NDArray[np.float64]) -> Self:
        """From the logarithms of all, in their order."""
        return cls(**dict(zip((f.name for f in fields(cls)), np.exp(logs).tolist(), strict=True)))

    @property
    def logs(self) -> NDArray[np.float64]:
        """Logarithms of all, in their order."""
        logs: NDArray[np.float64] = np.log(np.array(astuple(self)))
        return logs


SHARES = ("gemm_flops", "gemm_bytes", "attention_flops", "attention_bytes", "link")
