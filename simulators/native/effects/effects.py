"""Effects: what is changed about a model and its KV cache, and how that reaches sizes, memory and step times."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from simulators.errors import SimulatorError
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.formats import WEIGHTS
from simulators.native.effects.attended import Attended
from simulators.native.effects.formats import KV
from simulators.native.effects.kernels import GENERATION, SHARES
from simulators.native.effects.reuse import Reuse, reusable_shares
from simulators.native.effects.traffic import HostTraffic
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits
from workloads.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """All off by default. Sources are beside the numbers, in the modules of this folder."""

    weights: str | None = None  # their format in fewer bits (simulators/native/architecture/formats.py)
    kv: str | None = None  # the KV cache's format in fewer bits (formats.py)
    attention: str | None = None  # a generation of attention kernels (kernels.py)
    window: int | None = None  # tokens of the latest context that are kept; alone: sliding-window attention
    sinks: int = 0  # tokens of the context's beginning that are kept beside a window (StreamingLLM)
    heavy_hitters: int | None = None  # tokens of context that are kept (H2O)
    fetched: float | None = None  # share of the context, all of it in host memory, that a decode step fetches and reads (InfiniGen)
    weights_on_host: float = 0.0  # share of the weights that lies in host memory (FlexGen)
    kv_on_host: float = 0.0  # share of the KV cache that lies in host memory (FlexGen)
    overlap: bool = True  # whether fetching hides behind computing
    recomputed: float | None = None  # share of known chunks of a prompt that is computed anew (CacheBlend)

    def __post_init__(self) -> None:
        for name, known in (("weights", WEIGHTS), ("kv", KV), ("attention", SHARES)):
            if getattr(self, name) is not None and getattr(self, name) not in known:
                raise ValueError(f"effects.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("window", "heavy_hitters"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"effects.{name} must be >= 1 token, got {getattr(self, name)}")
        for name in ("fetched", "recomputed", "weights_on_host"):
            if not 0 <= (getattr(self, name) or 0.0) <= 1:
                raise ValueError(f"effects.{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.kv_on_host < 1 or self.sinks < 0:
            raise ValueError(f"effects.kv_on_host must be in [0, 1) and sinks >= 0, got {self.kv_on_host} and {self.sinks}")
        if self.fetched is not None and self.kv_on_host:
            raise ValueError("effects.fetched keeps all KV in host memory: leave kv_on_host at 0")
        if self.window is not None and self.heavy_hitters is not None:
            raise ValueError("effects: a window and a budget of heavy hitters exclude each other; give one")

    @property
    def kept_tokens(self) -> int | None:
        """Most tokens of a context that are kept, the new ones left out; None: all."""
        if self.window is not None:
            return self.window + self.sinks
        return self.heavy_hitters

    def shape(self, shape: Decoder) -> Decoder:
        """The model with its weights and KV in these formats."""
        kv = KV[self.kv] if self.kv else shape.kv_element
        changed = shape.with_weights(WEIGHTS[self.weights]) if self.weights else shape
        return dataclasses.replace(changed, kv_element=kv)

    def check(self, device: Device) -> None:
        """Raises SimulatorError when the device has no units for the arithmetic that its matrix products now use."""
        arithmetic = WEIGHTS[self.weights].arithmetic if self.weights else "16 bit"
        if device.peak(arithmetic) is None:
            raise SimulatorError(f"native: {device.name} has no {arithmetic} arithmetic, which effects.weights={self.weights} needs")

    def efficiency(self, efficiency: Efficiency, device: Device) -> Efficiency:
        """The shares of the peak with these attention kernels. Raises SimulatorError where no figure is known for the device."""
        if self.attention is None:
            return efficiency
        share = SHARES[self.attention].get(GENERATION.get(device.name, device.name))
        if share is None:
            raise SimulatorError(f"native: no published figure for effects.attention={self.attention} on {device.name}")
        return dataclasses.replace(efficiency, attention_flops=share)

    def host_bytes(self, shape: Decoder, device: Device, room: float) -> float:
        """Bytes that KV may take beyond the device's `room`. Raises SimulatorError when the host's memory is unknown or too small."""
        weights = self.weights_on_host * shape.weight_bytes
        kv = room * self.kv_on_host / (1 - self.kv_on_host) if room > 0 else 0.0
        if not (weights or kv or self.fetched is not None):
            return 0.0
        if device.host_memory is None:
            raise SimulatorError(f"native: these effects need host_memory_gb of hardware {device.name}; say what the machine has")
        if self.fetched is not None:
            return device.host_memory - weights - room
        if weights + kv > device.host_memory:
            raise SimulatorError(
                f"native: {weights / 1e9:.1f} GB of weights and {kv / 1e9:.1f} GB of KV do not fit "
                f"the host's {device.host_memory / 1e9:.0f} GB"
            )
        return kv

    def limits(self, limits: Limits) -> Limits:
        """Caches that keep a part of the context find no prefixes, and hold no more than that part."""
        kept = self.kept_tokens
        return limits if kept is None else dataclasses.replace(limits, prefix_caching=False, kept_tokens=kept)

    def step_time(self, inner: StepTime, shape: Decoder, device: Device, trace: Trace, tensor_parallel: int) -> StepTime:
        """The StepTime, wrapped in the effects that a roofline of sizes does not show.

        Raises SimulatorError when the link to the host is unknown.
        """
        if self.kept_tokens is not None or self.fetched is not None:
            inner = Attended(inner, most=self.kept_tokens, share=1.0 if self.fetched is None else self.fetched)
        read_kv = self.fetched if self.fetched is not None else self.kv_on_host
        if read_kv or self.weights_on_host or self.recomputed is not None:
            if device.host_bandwidth is None:
                raise SimulatorError(f"native: these effects need host_link_gb_s of hardware {device.name}; add it to conf/hardware")
            kv_token = shape.kv_bytes_per_token / tensor_parallel / device.host_bandwidth
            if self.recomputed is not None:
                inner = Reuse(inner, reusable_shares(trace), recomputed=self.recomputed, load_token=kv_token)
            if read_kv or self.weights_on_host:
                weights = self.weights_on_host * shape.weight_bytes / tensor_parallel / device.host_bandwidth
                inner = HostTraffic(inner, weights=weights, kv_token=read_kv * kv_token, overlap=self.overlap)
        return inner

    def describe(self) -> dict[str, Any]:
        """JSON-able: what is on."""
        return {f.name: v for f in dataclasses.fields(self) if (v := getattr(self, f.name)) != f.default}
