"""Predictor: our own simulator by itself. It makes limits, step times and a front-end of what is known of an engine, and serves a trace.

Read `predict`; `serve.py` has the simulation itself. `adapter.py` runs it in the bench, `planning/` for a planner.
"""

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from results.profile import Profile
from results.record_table import RecordTable
from simulators.errors import NotAvailable
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.reader import decoder_of
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.frontend.settings import StationSettings
from simulators.native.frontend.station import Station
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency, architecture_of, efficiency_of
from simulators.native.latency.experts import Routing
from simulators.native.latency.host import Host
from simulators.native.latency.host_path import HostPath
from simulators.native.latency.measured import residual_lines
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.roofline import Roofline
from simulators.native.latency.stairs import profiled
from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.drafting import Drafting
from simulators.native.memory.hybrid import why_whole
from simulators.native.memory.layout import grouped_layout
from simulators.native.resolve import Defaults
from simulators.native.scheduling.policies import POLICIES
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.served import NO_STATION, Frontend, Served
from workloads.columns import tokens_of
from workloads.release import Release
from workloads.trace import Trace

VERSION = "0.1"
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """conf/simulator/native.yaml says what each setting means; the constructor only checks them."""

    policy: str  # a scheduler by its name in policies.py, or AUTO: that of the measured engine
    arrangement: Arrangement  # how many engines, all with the same limits
    frontend: StationSettings  # the API servers before each
    frontend_after: float  # of the front end's cost that these do not explain, the share that comes after a step
    roofline: Efficiency  # of computed step times
    architectures: Mapping[str, Mapping[str, Any]]  # what differs of it by the device's architecture
    host_path: HostPath  # between devices, where the engine's environment turns peer-to-peer off
    routing: Routing  # of tokens to experts
    host: Host  # its share of a step, beside a device with such an architecture
    shipped: Defaults  # limits of an engine of which only the model and the device are known
    pipeline_parallel_size: int = 1  # stages of an engine
    speculation: Speculation = field(default_factory=Speculation)  # draft tokens, and how many of them are accepted

    def __post_init__(self) -> None:
        if self.policy not in (AUTO, *POLICIES):
            raise ValueError(f"simulator native: policy must be {AUTO} or one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.pipeline_parallel_size < 1:
            raise ValueError(f"simulator native: pipeline_parallel_size must be >= 1, got {self.pipeline_parallel_size}")
        if not 0 <= self.frontend_after <= 1:
            raise ValueError(f"simulator native: frontend_after must be in [0, 1], got {self.frontend_after}")

    def policy_for(self, engine: str) -> str:
        """The scheduler to simulate an engine of this name with."""
        return self.policy if self.policy != AUTO else "sglang" if engine == "sglang" else "vllm_v1"

    def predict(
        self,
        trace: Trace,
        limits: Limits,
        *,
        model: Mapping[str, Any],
        hardware: Mapping[str, Any],
        parallel: Parallelism,
        profile: Profile | None,
        station: Station | None,
        engine: Mapping[str, Any] = MappingProxyType({}),
        release: Release | None = None,
    ) -> "Prediction":
        """Serve the trace: step times and front-end cost from the profile, or else step times from the sizes of model and hardware.

        station: the API servers; None: there are none. engine: its part of a run's configuration. AUTO stands for vLLM's scheduler here,
        where no engine is known. release: as in `serve.serve`.
        """
        policy = self.policy_for("")
        frontend = self.frontend_with(station, profile)
        step_time: StepTime
        if profile is not None:
            step_time = profiled(profile, **how_steps_are_made(policy, limits))
        else:
            step_time = self.computed(model, hardware, limits, parallel=parallel, engine=engine)
        limits = self.decoding(limits, policy, stages=max(parallel.pipeline, self.pipeline_parallel_size))
        if limits.speculation.num_speculative_tokens:
            drafting = limits.speculation.draft_step * limits.speculation.num_speculative_tokens
            step_time = Drafting(step_time, seconds_per_step=drafting)
        share_experts = policy == "vllm_v1" and decoder_of(model).experts is not None
        served = (
            self.arrangement.of_replicas(parallel.data, share_experts=share_experts)
            .on(hardware, parallel.tensor * parallel.pipeline)
            .serve(
                trace,
                limits,
                step_time,
                frontend=frontend,
                policy=policy,
                kv_bytes_per_token=decoder_of(model).kv_bytes_per_token,
                release=release,
            )
        )
        return Prediction(served=served, limits=limits, frontend=frontend, step_time=step_time.describe())

    def decoding(self, limits: Limits, policy: str, *, stages: int) -> Limits:
        """The limits with the drafts that are set, and so many stages. Raises NotAvailable for a policy that has none."""
        drafts = self.speculation.num_speculative_tokens
        if drafts and policy not in ("vllm_v1", "sglang"):
            raise NotAvailable(
                f"native: the policy {policy} has no speculation; leave speculation.num_speculative_tokens out, or take vllm_v1 or sglang"
            )
        if stages > 1 and policy != "vllm_v1":
            raise NotAvailable(f"native: the policy {policy} has no pipeline; leave pipeline_parallel_size out, or take vllm_v1")
        if policy == "vllm_v1" and self.speculation.is_tree:
            raise NotAvailable("native: vLLM verifies one path of drafts; leave speculative_eagle_topk and _num_draft_tokens out")
        if drafts and stages > 1:
            raise NotAvailable("native: speculation in a pipeline is not modelled; set num_speculative_tokens or pipeline_parallel_size")
        in_flight = limits.in_flight if stages == 1 else stages + limits.asynchronous
        return dataclasses.replace(limits, speculation=self.speculation, pipeline_parallel_size=stages, in_flight=in_flight)

    def computed(
        self, model: Mapping[str, Any], hardware: Mapping[str, Any], limits: Limits, *, parallel: Parallelism, engine: Mapping[str, Any]
    ) -> Roofline:
        """Step times from the sizes of model and hardware. engine: its part of a run's configuration."""
        host = self.host_beside(hardware, overlapped=limits.in_flight > 1, engine=engine)
        device, efficiency = self.host_path.taken(Device.from_hardware(hardware), self.efficiency(hardware), engine)
        return Roofline(decoder_of(model), device, efficiency, parallel=parallel, host=host, routing=self.routing)

    def frontend_with(self, station: Station | None, profile: Profile | None) -> Frontend:
        """The front end: the station, and where the profile has the cost on an idle server, that cost (`Frontend.with_idle_cost`)."""
        given = station or NO_STATION
        if profile is None or profile.frontend is None:
            return Frontend(station=given)
        per_token = float(profile.provenance.get("frontend_per_prompt_token") or 0.0)  # not told: it is within the fixed cost
        return Frontend.with_idle_cost(profile.frontend, per_token, after=self.frontend_after, station=given)

    def efficiency(self, hardware: Mapping[str, Any]) -> Efficiency:
        """The roofline's numbers for this device. Raises SimulatorError for an architecture of which there are none."""
        return efficiency_of(hardware, self.roofline, self.architectures)

    def host_beside(self, hardware: Mapping[str, Any], *, overlapped: bool, engine: Mapping[str, Any]) -> Host | None:
        """The host's share of a step beside this device; None: it is in `roofline.step`. overlapped: asynchronous scheduling."""
        return None if architecture_of(hardware) is None else self.host.of(overlapped=overlapped, config=engine)

    def default_limits(self, model: Mapping[str, Any], hardware: Mapping[str, Any], *, parallel: Parallelism, max_model_len: int) -> Limits:
        """Limits of an engine of which only the model and the device are known. Raises SimulatorError when the model does not fit."""
        shape, device = decoder_of(model), Device.from_hardware(hardware)
        sharing = self.shares_prefixes(shape)
        grouped = self.why_whole(shape, tensor=parallel.tensor, prefix_caching=sharing) is None
        return self.shipped.limits(shape, device, parallel=parallel, max_model_len=max_model_len, grouped=grouped, prefix_caching=sharing)

    def shares_prefixes(self, shape: Decoder) -> bool:
        """Whether such an engine has prefix caching by default: vLLM 0.19 has none for models with states (its ModelConfig)."""
        return not (shape.state_bytes and self.policy_for("") == "vllm_v1")

    def why_whole(self, shape: Decoder, *, tensor: int, prefix_caching: bool) -> str | None:
        """See memory/hybrid.py."""
        return why_whole(
            shape,
            tensor=tensor,
            policy=self.policy_for(""),
            arrangement=self.arrangement.kind,
            prefix_caching=prefix_caching,
            drafter=self.speculation.method if self.speculation.num_speculative_tokens else None,
        )

    def with_groups(self, limits: Limits, shape: Decoder, *, tensor: int) -> Limits:
        """The limits of an engine that told them, with the groups that its layers are in."""
        if self.why_whole(shape, tensor=tensor, prefix_caching=limits.prefix_caching) is not None:
            return limits
        return dataclasses.replace(limits, kv_groups=grouped_layout(shape, tensor=tensor, block_size=limits.block_size).groups)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was simulated, and with what."""

    served: Served
    limits: Limits
    frontend: Frontend
    step_time: Mapping[str, Any]

    def config(self) -> dict[str, Any]:
        """JSON-able, for the run."""
        return {
            "limits": dataclasses.asdict(self.limits),
            "step_time": self.step_time,
            "frontend": {**dataclasses.asdict(self.frontend), "use": dataclasses.asdict(use) if (use := self.served.station) else None},
            "steps": self.served.steps,
            "preemptions": self.served.preemptions,
            "peak_kv_blocks": self.served.peak_kv_blocks,
        }

    def lines(self) -> list[str]:
        """For people."""
        served, known = self.served, self.step_time
        errors, blocks = RecordTable.of(served.records).columns["error"], self.limits.kv_blocks
        refused = len(errors) - errors.null_count
        lines = [
            f"{len(served.records)} requests in {served.steps} steps, {served.end:.3f} s simulated in {served.seconds:.3f} s",
            f"{served.preemptions} preemptions, {refused} refused, at most {served.peak_kv_blocks} of {blocks} KV blocks held",
            *residual_lines(known),
        ]
        if served.station is not None and self.frontend.station != NO_STATION:
            share = served.station.busy / served.end / self.frontend.station.servers
            lines.append(
                f"API servers: {1e3 * served.station.before:.1f} ms before the engine and {1e3 * served.station.first_token:.1f} ms after "
                f"the first token's step, on average; busy {share:.1%} of the time"
            )
        if known.get("steps_beyond_profile"):
            lines.append(f"{known['steps_beyond_profile']} of {known['steps']} steps lay beyond the profile's range: {known['beyond']}")
        return lines


def how_steps_are_made(policy: str, limits: Limits) -> dict[str, bool]:
    """What MeasuredStepTime must know of the engine behind a profile."""
    apart = policy == "sglang" and not limits.sglang.mixed_chunk
    return {"apart": apart, "recomputed": limits.sglang.recomputes_prefixes}


def longest_request(trace: Trace) -> int:
    """Tokens of the trace's longest request, prompt and output."""
    return int(tokens_of(trace).max())


def provenance() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {"python": platform.python_version(), "numpy": version("numpy"), "scipy": version("scipy")}
