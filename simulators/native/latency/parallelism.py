"""Parallelism: how the devices of an engine share a model, and what they say to each other in a step.

    all-reduce          2 (n - 1) / n of the activations cross each device's link (a ring)
    all-gather          (n - 1) / n of all devices' activations arrive at each; reduce-scatter: as many leave it
    all-to-all          each token goes to the devices of its experts, at most top_k of them, and comes back

Sizes are of one step; each collective has a latency on top (Efficiency.all_reduce). Rabenseifner, Optimization of collective reduction
operations, ICCS 2004, has the ring; the others are the same counting.
"""

from dataclasses import dataclass
from typing import Literal

from simulators.errors import SimulatorError
from simulators.native.architecture.decoder import Decoder, DecoderLayer
from simulators.native.architecture.feed_forward import Experts
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency

Cost = tuple[float, float]  # s, and s a token of a replica's step
NOTHING: Cost = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Devices: tensor * pipeline of each replica, data times as many where replicas share their experts."""

    tensor: int = 1  # devices that split each matrix, but for the experts'
    data: int = 1  # replicas that schedule for themselves and compute experts together
    pipeline: int = 1  # stages of layers
    expert: int = 1  # devices over which whole experts are spread; each expert is split over tensor * data / expert
    dispatch: Literal["all_gather", "all_to_all"] = "all_gather"  # how replicas exchange tokens; vLLM's default is the first

    def __post_init__(self) -> None:
        for name in ("tensor", "data", "pipeline", "expert"):
            if getattr(self, name) < 1:
                raise ValueError(f"parallelism.{name} must be >= 1 device, got {getattr(self, name)}")
        if self.stage % self.expert:
            raise ValueError(f"parallelism.expert {self.expert} must divide tensor * data, {self.tensor} * {self.data}")

    @property
    def stage(self) -> int:
        """Devices that compute a layer's experts together."""
        return self.tensor * self.data

    @property
    def expert_tensor(self) -> int:
        """Devices that split one expert."""
        return self.stage // self.expert

    def check(self, decoder: Decoder, device: Device) -> None:
        """Raises SimulatorError where the model cannot be shared so, or nothing links the devices."""
        if self.tensor * self.pipeline > 1 or self.data > 1:
            device.bandwidth_between(self.stage * self.pipeline)
        for layer, _ in decoder.groups:
            heads = getattr(layer.attention, "heads", self.tensor)
            if heads % self.tensor:
                raise SimulatorError(f"native: {heads} attention heads cannot be split over {self.tensor} devices")
        if (experts := decoder.experts) is not None and experts.count % self.expert:
            raise SimulatorError(f"native: {experts.count} experts cannot be spread over {self.expert} devices")
        if self.pipeline > len(decoder.layers):
            raise SimulatorError(f"native: {len(decoder.layers)} layers cannot be {self.pipeline} stages")

    def weight_bytes(self, decoder: Decoder) -> float:
        """Bytes of weights on one device: of its stage, embeddings and output layer split, too."""
        total = 0.0
        for layer, count in decoder.groups:
            for product in decoder.products(layer):
                over = self.stage if product.part == "expert" else 1 if product.matrix.split == "whole" else self.tensor
                total += count * product.copies * product.matrix.weights * product.format.bytes / over
        return (total + decoder.embedding_bytes / self.tensor) / self.pipeline

    def exchanged(self, decoder: Decoder, device: Device, efficiency: Efficiency, layer: DecoderLayer) -> Cost:
        """What a layer's devices say to each other: after attention, and before and after its MLP."""
        moved = decoder.hidden * decoder.dtype_bytes
        reduce = self._over(self.tensor, 2 * (self.tensor - 1) / self.tensor * moved, device, efficiency)
        if self.data == 1 or not isinstance(layer.feed_forward, Experts):
            return _sum(reduce, reduce)
        others = (self.stage - 1) / self.stage
        copies = min(layer.feed_forward.top_k, self.expert) / self.tensor if self.dispatch == "all_to_all" else self.data
        there = self._over(self.stage, others * copies * moved, device, efficiency)
        return _sum(reduce, _sum(there, there))

    def handed_on(self, decoder: Decoder, device: Device, efficiency: Efficiency) -> Cost:
        """What stages hand on to the next."""
        one = self._over(self.stage * self.pipeline, decoder.hidden * decoder.dtype_bytes / self.tensor, device, efficiency)
        return (self.pipeline - 1) * one[0], (self.pipeline - 1) * one[1]

    def _over(self, devices: int, crossing: float, device: Device, efficiency: Efficiency) -> Cost:
        """One collective over so many devices. crossing: bytes a token over the link of each."""
        if devices == 1:
            return NOTHING
        return efficiency.all_reduce, crossing / (device.bandwidth_between(devices) * efficiency.link)


def _sum(a: Cost, b: Cost) -> Cost:
    return a[0] + b[0], a[1] + b[1]
