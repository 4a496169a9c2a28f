"""Native: our own simulator as the bench sees it. Read `simulate`; `serve.py` has the simulation itself."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from results.profile import Profile
from results.record import RequestRecord, Run, Track
from simulators.errors import NotAvailable
from simulators.inputs import handed_over, labelled, release_of
from simulators.native.architecture.reader import decoder_of
from simulators.native.frontend.settings import ENGINES
from simulators.native.latency.parallelism import Parallelism
from simulators.native.predictor import VERSION, Predictor, how_steps_are_made, longest_request, provenance
from simulators.native.resolve import drafts_told, limits_of, parallelism_of, vllm_version, with_capacity
from simulators.native.scheduling.scheduler import Limits
from simulators.simulator import Coverage, simulated_run, waits

NAME = "native"


@dataclass(frozen=True, kw_only=True)
class Native(Predictor):
    """The predictor, run on a measured run in four tracks. An arrangement of several engines gives each of them the engine's limits.

    shipped: step times from the roofline, limits from the model and the device alone.
    matched: step times from the roofline, the engine's own limits.
    calibrated: step times and front-end cost from the engine's profile, the engine's own limits.
    oracle: step times from the steps of the very run that is simulated (own_steps.py), all else as calibrated: a diagnosis, no prediction.

    Closed loops and sessions stay such where there is one engine: a simulated end makes the next request due. `loop` replayed: sent times.
    """

    loop: Literal["closed", "replayed"] = "closed"  # what is made of a closed loop

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
        pipeline_parallel="partly",
        disaggregation="yes",
        frontend_cost="yes",
        token_times="yes",
        gqa="yes",
        closed_loop="yes",
        experts="yes",
        expert_parallel="partly",
        data_parallel="partly",
        latent_attention="yes",
        windows="partly",
        quantisation="yes",
        speculation="yes",
        notes="tensor, expert and data parallelism: in the roofline, or as profiled; replicas that share experts "
        "step together, as vLLM's do. front-end: API servers as queues; a delay, "
        "where engines look at each other. "
        "disaggregation: as arranged, e.g. arrangement.kind=distserve. "
        "pipeline: vLLM's micro-batches, stages that share a step's time evenly. "
        "windows, quantisation: as the planner's effects, of all layers alike. speculation: vLLM's, with a stated acceptance.",
    )

    @property
    def system(self) -> str:
        """Its name in the database: an arrangement of several engines, and a replay of closed loops, are scored as systems of their own."""
        if self.arrangement.instances == 1:
            return NAME if self.loop == "closed" else f"{NAME}_replayed"
        return labelled(NAME, "pd") if self.arrangement.kind == "distserve" else f"{NAME}_{self.arrangement.kind}"

    @property
    def keeps_loops(self) -> bool:
        """Whether closed loops and sessions stay what they are."""
        return self.loop == "closed" and self.arrangement.instances == 1

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched", "calibrated", "oracle")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """See Simulator. `scratch/log` says in a few lines what was simulated, and how well the step times are known."""
        if self.loop == "replayed" and not waits(measured):
            raise NotAvailable(f"{self.system}: run {measured.run_id} was no closed loop: `native` itself replays its sent times")
        trace, apart = measured.trace_as_sent(), self.arrangement.hands_over
        release = release_of(measured, trace) if self.keeps_loops else None
        model, hardware, parallel = measured.config["model"], measured.config["hardware"], parallelism_of(measured.limits)
        native = dataclasses.replace(self, policy=self.policy_for(measured.system))
        limits = native._limits(measured, track, parallel, longest_request(trace))
        self._check_speculation(measured)
        if apart:
            trace, limits = handed_over(trace), dataclasses.replace(limits, max_model_len=limits.max_model_len + 1)
        chosen, own_steps = native.step_times(measured, profile, track, limits)
        engine = measured.config.get("engine") or {}
        station = self.frontend.station(measured.system, sent_as(measured)) if native.policy in ENGINES else None
        outcome = native.predict(
            trace,
            limits,
            model=model,
            hardware=hardware,
            parallel=parallel,
            profile=chosen,
            station=station,
            engine=engine,
            release=release,
        )
        (scratch / "log").write_text("\n".join(outcome.lines()) + "\n", encoding="utf-8")
        return simulated_run(
            measured,
            map(without_first_token, outcome.served.records) if apart else outcome.served.records,
            system=self.system,
            version=VERSION,
            track=track,
            wall_s=outcome.served.seconds,
            coverage=self.coverage if release is not None else dataclasses.replace(self.coverage, closed_loop="no"),
            looped=release is not None,
            config={
                "settings": dataclasses.asdict(native),
                "kv_capacity": "the engine's" if measured.limits.kv_tokens and track != "shipped" else "our memory model's",
                **own_steps,
                **outcome.config(),
            },
            provenance=provenance(),
        )

    def _limits(self, measured: Run, track: Track, parallel: Parallelism, longest: int) -> Limits:
        """Of the engine as the track knows it; where it did not say how much its KV cache holds, that of the memory model."""
        said, known = measured.limits, None
        if track == "shipped" or (track in ("matched", "calibrated") and said.kv_tokens is None):
            config, most = measured.config, said.max_model_len or longest
            known = self.default_limits(config["model"], config["hardware"], parallel=parallel, max_model_len=most)
        if known is not None and track == "shipped":
            return known
        said = said if known is None else with_capacity(said, known)
        found = limits_of(said, measured.config, f"run {measured.run_id}", vllm=vllm_version(measured))
        return self.with_groups(found, decoder_of(measured.config["model"]), tensor=parallel.tensor)

    def _check_speculation(self, measured: Run) -> None:
        """Raises NotAvailable when the engine verified other drafts than the settings have, or they have none."""
        said, set_here = drafts_told(measured.config), self.speculation
        mine = {
            "num_speculative_tokens": set_here.num_speculative_tokens,
            "speculative_eagle_topk": set_here.speculative_eagle_topk,
            "speculative_num_draft_tokens": set_here.verified_tokens,
        }
        if any(mine[name] != value for name, value in said.items()):
            words = " ".join(f"simulators.native.speculation.{name}={value}" for name, value in said.items())
            raise NotAvailable(
                f"native: the engine of run {measured.run_id} verified drafts, and the settings have none or others; say what it did, and "
                f"how many were accepted: {words} simulators.native.speculation.acceptance_rate=..."
            )

    def step_times(self, measured: Run, profile: Profile | None, track: Track, limits: Limits) -> tuple[Profile | None, dict[str, Any]]:
        """The profile that the track takes (None: it computes step times from sizes), and what the run's own steps say about it, JSON-able.

        Raises NotAvailable where a profile is needed and there is none.
        """
        if track not in ("calibrated", "oracle"):
            return None, {}
        from simulators.native.latency.own_steps import ON_STEPS, TOLD, own_profile, profile_on_steps  # here: pandas takes long to import

        made = how_steps_are_made(self.policy, limits)
        if track == "calibrated":
            if profile is None:
                raise NotAvailable(
                    "native: the calibrated track needs a profile of the engine; let the bench make one, take another source "
                    "(calibration=aic, calibration=run, calibration=first_requests), or leave the track out"
                )
            return profile, {ON_STEPS: profile_on_steps(measured, profile, **made)}
        if self.arrangement.instances > 1:
            raise NotAvailable("native: the oracle track has the steps of one engine; leave it out for an arrangement of several")
        own = own_profile(measured, profile, **made)
        return own, {"own_steps": {name: own.provenance.get(name) for name in TOLD}}


def sent_as(measured: Run) -> str | None:
    """How a run's requests were sent, one of frontend.settings.APIS; None: past any server. Our own client sends token ids."""
    if measured.provenance.get("in_process"):
        return None
    return "chat" if "recorded_by" in measured.provenance else "ids"


def without_first_token(record: RequestRecord) -> RequestRecord:
    """As a client sees a request that was `handed_over`."""
    if record.token_times is None:
        return record
    times = record.token_times[1:]
    return dataclasses.replace(record, first_token=times[0], output_tokens=len(times), token_times=times)
