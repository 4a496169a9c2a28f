"""Deployment: engines of a model on some hardware, none of which need exist, and what a planner asks of them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results.profile import Profile
from simulators.errors import SimulatorError
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.reader import decoder_of
from simulators.native.effects.effects import Effects
from simulators.native.frontend.settings import ENGINES
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.stairs import profiled
from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.drafting import Drafting
from simulators.native.latency.wrappers.swapping import Swapping
from simulators.native.memory.hybrid import LEFT_OUT, OFF
from simulators.native.predictor import Prediction, Predictor, longest_request
from simulators.native.resolve import limits_of, parallelism_of
from simulators.native.scheduling.scheduler import Limits
from workloads.trace import Trace

NO_SHARING = "Prefix caching is off, as vLLM 0.19 has it for models with states; limits.prefix_caching=true has it on."


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Engines of a model on some hardware.

    A profile has measured step times, and effects change computed ones: the two exclude each other.
    """

    native: Predictor  # efficiencies, default limits, policy and arrangement
    model: Mapping[str, Any]  # its config.json
    hardware: Mapping[str, Any]  # as in conf/hardware
    parallel: Parallelism = field(default_factory=Parallelism)  # how an engine's devices share the model
    max_model_len: int | None = None  # tokens of one request; None: the longest of the trace
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of Limits, instead of what the model and the device give
    effects: Effects = field(default_factory=Effects)  # changes to the model and its KV cache
    profile: Profile | None = None  # a measured one, whose step times, front-end cost and limits then count

    def __post_init__(self) -> None:
        if self.profile is not None and self.effects != Effects():
            raise SimulatorError("native: effects change computed step times, and a profile has measured ones; leave one of them out")

    @property
    def devices(self) -> int:
        """Devices of all engines together."""
        return self.engine_devices * self.native.arrangement.instances

    @property
    def engine_devices(self) -> int:
        """Devices of one engine."""
        return self.shared.stage * self.shared.pipeline

    @property
    def shared(self) -> Parallelism:
        """How the devices of an engine share the model; with a profile, as the measured engine did."""
        return self.parallel if self.profile is None else parallelism_of(self.profile.limits)

    def limits(self, trace: Trace) -> Limits:
        """Limits of each engine, serving this trace. Raises SimulatorError when the model does not fit the memory, and says by how much."""
        shape, device = self.sizes()
        if self.profile is not None:
            found = limits_of(self.profile.limits, {}, f"profile {self.profile.profile_id}")
            found = found if self._why_whole(shape) else self.native.with_groups(found, shape, tensor=self.shared.tensor)
        else:
            found = self.native.shipped.limits(
                shape,
                device,
                parallel=self.parallel,
                max_model_len=self.max_model_len or longest_request(trace),
                effects=self.effects,
                grouped=self._why_whole(shape) is None,
                prefix_caching=self._shares_prefixes(shape),
            )
        changed = dataclasses.replace(self.effects.limits(found), **self.changes)
        return self.native.decoding(changed, self.native.policy, stages=self.parallel.pipeline)

    def serve(self, trace: Trace, *, token_times: bool = True) -> Prediction:
        """Simulate it. token_times: False: records need not have them.

        Raises SimulatorError, and ValueError for settings that do not go together.
        """
        limits = self.limits(trace)
        step_time = self.step_time(trace, limits)
        station = self.native.frontend.station(ENGINES.get(self.native.policy, ""), "chat")
        frontend = self.native.frontend_with(station, self.profile)
        share_experts = self.native.policy == "vllm_v1" and self.sizes()[0].experts is not None
        replicas = self.native.arrangement.of_replicas(self.parallel.data, share_experts=share_experts)
        served = replicas.on(self.hardware, self.parallel.tensor * self.parallel.pipeline).serve(
            trace,
            limits,
            step_time,
            frontend=frontend,
            policy=self.native.policy,
            kv_bytes_per_token=self.sizes()[0].kv_bytes_per_token,
            token_times=token_times,
        )
        return Prediction(served=served, limits=limits, frontend=frontend, step_time=step_time.describe())

    def caveat(self) -> str | None:
        """What to know of its answers; None: nothing. Raises SimulatorError."""
        shape, _ = self.sizes()
        why = self._why_whole(shape)
        if why is None:
            sharing = self.profile is not None or not shape.state_bytes or self._shares_prefixes(shape)
            return None if sharing else NO_SHARING
        if not shape.windows:
            return f"KV memory: each of max_num_seqs sequences has room for its states, beside the blocks ({why})."
        tokens = " and ".join(f"{window:,}" for window in shape.windows)
        so = "" if why.startswith(OFF) else ", so more requests fit than are simulated"
        return f"KV memory: layers with a window of {tokens} tokens keep all of a context ({why}){so}."

    def _why_whole(self, shape: Decoder) -> str | None:
        """See memory/hybrid.py."""
        if self.effects.kept_tokens is not None:
            return f"{LEFT_OUT} with effects that keep a part of it" if shape.windows or shape.state_bytes else None
        return self.native.why_whole(shape, tensor=self.shared.tensor, prefix_caching=self._shares_prefixes(shape))

    def _shares_prefixes(self, shape: Decoder) -> bool:
        """Whether prefixes are shared: as set, else as the profile's engine said, else by default."""
        said = self.profile.limits.prefix_caching if self.profile is not None else None
        given = self.changes.get("prefix_caching", said)
        return self.native.shares_prefixes(shape) if given is None else bool(given)

    def sizes(self) -> tuple[Decoder, Device]:
        """The model, its effects included, and the device. Raises SimulatorError."""
        device = Device.from_hardware(self.hardware)
        self.effects.check(device)
        return self.effects.shape(decoder_of(self.model)), device

    def step_time(self, trace: Trace, limits: Limits) -> StepTime:
        """How long its steps take, serving this trace within these limits. Raises SimulatorError."""
        found = self._computed(trace, limits) if self.profile is None else profiled(self.profile, apart=self.native.policy == "sglang")
        drafts = limits.speculation.num_speculative_tokens
        return Drafting(found, seconds_per_step=limits.speculation.draft_step * drafts) if drafts else found

    def efficiency(self) -> Efficiency:
        """What kernels reach of the device's peaks. Raises SimulatorError."""
        return self.effects.efficiency(self.native.efficiency(self.hardware), Device.from_hardware(self.hardware))

    def _computed(self, trace: Trace, limits: Limits) -> StepTime:
        shape, device = self.sizes()
        efficiency = self.efficiency()
        host = self.native.host_beside(self.hardware, overlapped=limits.in_flight > 1, engine={})
        computed: StepTime = Roofline(shape, device, efficiency, parallel=self.parallel, host=host, routing=self.native.routing)
        if self.native.policy == "vllm_v0_swap":
            if device.host_bandwidth is None:
                raise SimulatorError(f"native: swapping needs host_link_gb_s of hardware {device.name}; add it to conf/hardware")
            computed = Swapping(computed, seconds_per_token=shape.kv_bytes_per_device(self.parallel.tensor) / device.host_bandwidth)
        return self.effects.step_time(computed, shape, device, trace, self.parallel.tensor)


def at_rate(trace: Trace, rate: float) -> Trace:
    """The trace, its arrivals stretched to this mean rate, requests/s. Raises ValueError when it has none."""
    if rate <= 0 or trace.rate is None:
        raise ValueError(f"rate {rate} requests/s: it must be above 0, and the trace's arrivals must not all be at one instant")
    return trace.with_arrivals(r.arrival * trace.rate / rate for r in trace)
