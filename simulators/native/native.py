"""Native: our own simulator as the bench knows it. Read `simulate`; `serve.py` has the simulation itself."""

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy

from results.profile import Profile
from results.record import RequestRecord, Run, Track
from results.record_table import RecordTable
from simulators.inputs import handed_over, labelled
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.measured import Measured, residual_lines
from simulators.native.policies import POLICIES
from simulators.native.resolve import Defaults, limits_of
from simulators.native.roofline import Device, Efficiency, Roofline
from simulators.native.scheduler import Limits
from simulators.native.serve import Frontend, Served
from simulators.native.shape import Shape
from simulators.native.step_time import StepTime
from simulators.system import Coverage, NotAvailable, simulated_run
from workloads.columns import columns_of
from workloads.trace import Trace

NAME, VERSION = "native", "0.1"
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Native:
    """conf/simulator/native.yaml says what each setting means; the constructor only checks them.

    shipped: step times from the roofline, limits from the model and the device alone. matched: the roofline, and the engine's own limits.
    calibrated: step times and front-end cost from the engine's profile, and its limits. policy: a scheduler by its name in policies.py, or
    AUTO: that of the measured engine. arrangement: how many engines, each with the measured limits; more than one is a system of its own.
    oracle: step times from the steps of the very run that is simulated (own_steps.py), all else as calibrated: a diagnosis, no prediction.
    """

    policy: str
    arrangement: Arrangement
    frontend_after: float
    roofline: Efficiency
    shipped: Defaults

    environment: ClassVar[str | None] = None
    coverage: ClassVar[Coverage] = Coverage(
        chunked_prefill="yes",
        prefix_caching="yes",
        kv_limit="yes",
        max_num_seqs="yes",
        token_budget="yes",
        preemption="yes",
        context_dependent_decode="yes",
        tensor_parallel="partly",
        pipeline_parallel="no",
        disaggregation="yes",
        frontend_cost="partly",
        token_times="yes",
        gqa="yes",
        notes="tensor parallelism: in the roofline, or as profiled. front-end: a delay (calibrated track), no queue of its own. "
        "disaggregation: as arranged, e.g. arrangement.kind=distserve.",
    )

    def __post_init__(self) -> None:
        if self.policy not in (AUTO, *POLICIES):
            raise ValueError(f"simulator native: policy must be {AUTO} or one of {', '.join(POLICIES)}, got {self.policy!r}")
        if not 0 <= self.frontend_after <= 1:
            raise ValueError(f"simulator native: frontend_after must be in [0, 1], got {self.frontend_after}")

    @property
    def system(self) -> str:
        """Its name in the database: an arrangement of several engines is scored apart from the lone one."""
        if self.arrangement.instances == 1:
            return NAME
        return labelled(NAME, "pd") if self.arrangement.kind == "distserve" else f"{NAME}_{self.arrangement.kind}"

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched", "calibrated", "oracle")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """See Simulator. `scratch/log` says in a few lines what was simulated, and how well the step times are known."""
        trace, apart = measured.trace_as_sent(), self.arrangement.hands_over
        model, hardware, tensor_parallel = measured.config["model"], measured.config["hardware"], measured.limits.tensor_parallel
        if track == "shipped":
            longest = measured.limits.max_model_len or longest_request(trace)
            limits = self.default_limits(model, hardware, tensor_parallel=tensor_parallel, max_model_len=longest)
        else:
            limits = limits_of(measured.limits, measured.config, f"run {measured.run_id}")
        if apart:
            trace, limits = handed_over(trace), dataclasses.replace(limits, max_model_len=limits.max_model_len + 1)
        native = dataclasses.replace(self, policy=self.policy_for(measured.system))
        chosen, own_steps = native.step_times(measured, profile, track, limits)
        outcome = native.predict(trace, limits, model=model, hardware=hardware, tensor_parallel=tensor_parallel, profile=chosen)
        (scratch / "log").write_text("\n".join(outcome.lines()) + "\n", encoding="utf-8")
        return simulated_run(
            measured,
            map(without_first_token, outcome.served.records) if apart else outcome.served.records,
            system=self.system,
            version=VERSION,
            track=track,
            wall_s=outcome.served.seconds,
            coverage=self.coverage,
            config={"settings": dataclasses.asdict(native), **own_steps, **outcome.config()},
            provenance=provenance(),
        )

    def step_times(self, measured: Run, profile: Profile | None, track: Track, limits: Limits) -> tuple[Profile | None, dict[str, Any]]:
        """The profile that the track takes (None: it computes step times from sizes), and what the run's own steps say, JSON-able.

        Raises NotAvailable where a profile is needed and there is none.
        """
        if track not in ("calibrated", "oracle"):
            return None, {}
        from simulators.native.own_steps import ON_STEPS, TOLD, own_profile, profile_on_steps  # here: pandas takes long to import

        made = how_steps_are_made(self.policy, limits)
        if track == "calibrated":
            if profile is None:
                raise NotAvailable(
                    "native: the calibrated track needs a profile of the engine; let the bench make one, take another source "
                    "(calibration=aic, calibration=first_requests), or leave the track out"
                )
            return profile, {ON_STEPS: profile_on_steps(measured, profile, **made)}
        if self.arrangement.instances > 1:
            raise NotAvailable("native: the oracle track has the steps of one engine; leave it out for an arrangement of several")
        own = own_profile(measured, profile, **made)
        return own, {"own_steps": {name: own.provenance.get(name) for name in TOLD}}

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
        tensor_parallel: int,
        profile: Profile | None,
    ) -> "Outcome":
        """Serve the trace: step times and front-end cost from the profile, or else step times from the sizes of model and hardware.

        AUTO stands for vLLM's scheduler here, where no engine is known.
        """
        policy = self.policy_for("")
        frontend = Frontend()
        step_time: StepTime
        if profile is not None:
            step_time, frontend = Measured(profile, **how_steps_are_made(policy, limits)), self.frontend(profile)
        else:
            shape, device = Shape.from_config(model), Device.from_hardware(hardware)
            step_time = Roofline(shape, device, self.roofline, tensor_parallel=tensor_parallel)
        served = self.arrangement.on(hardware, tensor_parallel).serve(
            trace,
            limits,
            step_time,
            frontend=frontend,
            policy=policy,
            kv_bytes_per_token=Shape.from_config(model).kv_bytes_per_token,
        )
        return Outcome(served=served, limits=limits, frontend=frontend, step_time=step_time.describe())

    def frontend(self, profile: Profile) -> Frontend:
        """The profile's cost per request outside the steps, split as `frontend_after` says; what a prompt's tokens add comes before."""
        fixed = profile.frontend or 0.0
        by_token = float(profile.provenance.get("frontend_per_prompt_token") or 0.0)
        return Frontend(before=fixed * (1 - self.frontend_after) - by_token, before_per_token=by_token, after=fixed * self.frontend_after)

    def default_limits(self, model: Mapping[str, Any], hardware: Mapping[str, Any], *, tensor_parallel: int, max_model_len: int) -> Limits:
        """Limits of an engine of which only the model and the device are known. Raises SimulatorError when the model does not fit."""
        shape, device = Shape.from_config(model), Device.from_hardware(hardware)
        return self.shipped.limits(shape, device, tensor_parallel=tensor_parallel, max_model_len=max_model_len)


@dataclass(frozen=True, kw_only=True)
class Outcome:
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
            "frontend": dataclasses.asdict(self.frontend),
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
        if known.get("steps_beyond_profile"):
            lines.append(f"{known['steps_beyond_profile']} of {known['steps']} steps lay beyond the profile's range: {known['beyond']}")
        return lines


def without_first_token(record: RequestRecord) -> RequestRecord:
    """As a client sees a request that was `handed_over`."""
    if record.token_times is None:
        return record
    times = record.token_times[1:]
    return dataclasses.replace(record, first_token=times[0], output_tokens=len(times), token_times=times)


def how_steps_are_made(policy: str, limits: Limits) -> dict[str, bool]:
    """What Measured must know of the engine behind a profile."""
    apart = policy == "sglang" and not limits.sglang.mixed_chunk
    return {"apart": apart, "recomputed": limits.sglang.recomputes_prefixes}


def longest_request(trace: Trace) -> int:
    """Tokens of the trace's longest request, prompt and output."""
    columns = columns_of(trace)
    return int((columns.input_tokens + columns.output_tokens).max())


def provenance() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
