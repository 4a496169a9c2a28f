"""DistServe's simulator, simdistserve (Zhong et al., OSDI 2024; Apache-2.0), unedited, from a pinned commit of its git repository.

What its time model can express: a prefill step as a + b * tokens + c * sum of squared prompt lengths; a decode step as a + b * cached
tokens + c * sequences, with two sets of coefficients for few and for many sequences (times.py). What it cannot: any other
shape, chunks of a prompt (its driver has them, but the decodes beside a chunk cost nothing there; not used), steps with both prompts and
decodes (they run one after the other, prompts first), prefix caching, any cost outside the steps.

Read `DistServeSim.simulate` top to bottom. What goes in: times.py; what runs: driver.py; what comes out: records.py.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from results.profile import Profile
from results.record import Run, Track
from simulators.distserve.records import count_cut, count_outside, to_records
from simulators.distserve.times import fit_times
from simulators.errors import SimulatorError
from simulators.foreign.checkout import Repository, importing
from simulators.foreign.program import (
    Usage,
    clean_environment,
    describe_log,
    foreign_run,
    interpreter,
    run_program,
)
from simulators.foreign.step_points import fit, residuals, whole_points, wild
from simulators.foreign.step_times import StepTimes
from simulators.inputs import (
    Pools,
    handed_over,
    known_limits,
    kv_shape,
    labelled,
    mean_decode_context,
    needed_profile,
    one_engine,
    sent_trace,
    transfer_rate,
)
from simulators.simulator import Coverage
from workloads.trace import Trace

NAME = "distserve_sim"
DRIVER = Path(__file__).with_name("driver.py")
SLOT = "facebook/opt-13b"  # it takes models by name only, and knows three; the engine's times replace those of this one
SHIPPED = {"facebook/opt-13b": (1, 2, 4), "facebook/opt-66b": (2, 3, 4, 8)}  # its models and tensor parallelisms
CANNOT_EXPRESS = "chunks on cached tokens, and mixed steps but as two, one after the other"
DECODE_TOKENS = 50_000  # cached tokens of one decode step, hard-coded; with a request of more it never ends


@dataclass(frozen=True, kw_only=True)
class DistServeScenario:
    """What is to be simulated."""

    trace: Trace  # the requests
    model: str  # its name in the table of step times
    tensor_parallel: int  # devices of an instance
    worker: dict[str, int | float]  # settings of its workers; empty: its own
    table: dict[str, Any] | None = None  # step times in its format; None: its own
    times: StepTimes | None = None  # the engine's step times, from which the table was made; None: its own
    pools: Pools | None = None  # None: one instance for both prefill and decode
    transfer: float = 0.0  # s that a prompt token's KV cache takes to the decode instance


@dataclass(frozen=True, kw_only=True)
class DistServeSim:
    """The simulator; conf/simulator/distserve_sim.yaml says more of each setting, and the constructor only checks them."""

    repository: str  # a git address, a clone or a bare repository
    commit: str  # what is fetched from it, all 40 digits
    topology: Literal["colocated", "pd"]  # pd: prefill and decode on instances of their own
    prefill_instances: int  # of topology pd
    decode_instances: int  # of topology pd; it cannot share decodes out among more than one
    shipped_model: str  # its own profile that comes nearest, for the shipped and matched tracks
    shipped_tensor_parallel: int  # devices of that profile
    limit: float  # s of CPU time for a simulation
    environment: str = NAME  # name under .envs/

    coverage: ClassVar[Coverage] = Coverage(
        chunked_prefill="no",
        prefix_caching="no",
        kv_limit="partly",
        max_num_seqs="partly",
        token_budget="partly",
        preemption="no",
        context_dependent_decode="yes",
        tensor_parallel="partly",
        pipeline_parallel="no",
        disaggregation="yes",
        frontend_cost="no",
        token_times="yes",
        gqa="no",
        notes="max_num_seqs: of one step; of those let in only as cached tokens, so many of the requests' mean context; "
        "token_budget: of a step's prompts (the longest prompt at least), and 50,000 cached tokens of its decodes, hard-coded; "
        "kv_limit: no prompt starts while the running requests' cached tokens exceed the capacity, none is taken away after that; "
        "tensor_parallel: as profiled in the calibrated track, in the others that of the shipped times, whatever the run's; "
        "pipeline_parallel: it has stages that share a step's time evenly, which are not used here; "
        "gqa: it counts cached tokens, not bytes; disaggregation: one decode instance",
    )

    def __post_init__(self) -> None:
        if self.shipped_tensor_parallel not in SHIPPED.get(self.shipped_model, ()):
            usable = "; ".join(f"{model} at tensor parallelism {', '.join(map(str, tp))}" for model, tp in SHIPPED.items())
            raise ValueError(
                f"simulator distserve_sim: it ships no times of {self.shipped_model} at tensor parallelism {self.shipped_tensor_parallel}, "
                f"only of {usable}"
            )
        if self.topology not in ("colocated", "pd"):
            raise ValueError(f"simulator distserve_sim: topology must be colocated or pd, got {self.topology!r}")
        if self.prefill_instances < 1 or self.decode_instances != 1:
            raise ValueError(
                f"simulator distserve_sim: prefill_instances must be >= 1 and decode_instances 1 (it looks at queues only, so with more "
                f"nearly all decodes go to one), got {self.prefill_instances} and {self.decode_instances}"
            )
        if not self.limit > 0:
            raise ValueError(f"simulator distserve_sim: limit must be > 0 s, got {self.limit}")
        self._source()

    @property
    def system(self) -> str:
        """See Simulator."""
        return labelled(NAME, self.topology)

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        scenario = self._scenario(measured, track, profile)
        refuse_too_long(scenario.trace)
        points = whole_points(profile) if scenario.times and profile else None
        usage, report = self._run(scenario, points, scratch)

        log, requests = scratch / "log", tuple(scenario.trace)
        out = np.load(scratch / "tokens.npz")
        records = to_records(requests, out, log, unseen=1 if scenario.pools else 0)
        calibration = None
        if scenario.times and profile and points is not None:
            calibration = {
                "profile": profile.profile_id,
                "table_ms": scenario.table,
                "cannot_express": CANNOT_EXPRESS,
                "residuals": residuals(points, report["predicted"]),
                "wild_points": int(wild(profile.points(held_out=False)).sum()),
                "points_it_cannot_express": int((profile.points()["prefill_context"] > 0).sum()),
                "steps": len(out["start"]),
                "steps_outside": count_outside(scenario.times, out),
            }
        return foreign_run(
            self,
            measured,
            records,
            usage,
            version=self._source().version,
            track=track,
            settings={
                "times_from": profile.profile_id if calibration and profile else f"its own, of vLLM with {scenario.model} on an A100",
                "worker": report["worker"],
                "pools": asdict(scenario.pools) if scenario.pools else None,
                "calibration": calibration,
                "simulate_s": report["simulate_s"],
                "steps_cut_at_50000_tokens": count_cut(records, out, int(report["worker"]["decode_max_tokens"])),
            },
            provenance=self._source().provenance,
        )

    def _source(self) -> Repository:
        return Repository(name=NAME, url=self.repository, commit=self.commit)

    def _scenario(self, measured: Run, track: Track, profile: Profile | None) -> DistServeScenario:
        """What is to be simulated. Raises SimulatorError when the track, the profile or a limit is not to be had."""
        one_engine(self.system, measured)
        trace = sent_trace(self.system, measured)
        if self.topology == "pd":
            trace = handed_over(trace)
        longest = max(r.input_tokens for r in trace)
        shipped = DistServeScenario(
            trace=trace, model=self.shipped_model, tensor_parallel=self.shipped_tensor_parallel, worker={}, pools=self._pools(None)
        )
        if track == "shipped":
            return shipped
        kv_tokens, sequences, budget = known_limits(self.system, measured, ("kv_tokens", "max_num_seqs", "max_num_batched_tokens"))
        worker: dict[str, int | float] = {
            "prefill_max_batch_size": sequences,
            "prefill_max_tokens": max(budget, longest),  # it does not chunk prompts, and a prompt that fits no step waits for ever
            "decode_max_tokens": sequences,  # bounds the number of sequences, in spite of its name
            # in spite of its name, cached tokens beyond which no prompt starts; nothing bounds the requests that are let in
            "decode_max_batch_size": min(kv_tokens, round(sequences * mean_decode_context(trace))),
            "decode_back_pressure": 1.0,  # the share of it
        }
        pools = self._pools(measured)
        transfer = 0.0
        if pools and pools.transfer:
            transfer = kv_shape(self.system, measured.config.get("model") or {}).bytes_per_token / pools.transfer
        matched = replace(shipped, worker=worker, pools=pools, transfer=transfer)
        if track == "matched":
            return matched
        profile = needed_profile(self.system, measured, profile)
        times = fit(self.system, profile)
        table = fit_times(profile, times, budget=budget, longest=longest).table()
        return replace(matched, model=SLOT, tensor_parallel=measured.limits.tensor_parallel, table=table, times=times)

    def _pools(self, measured: Run | None) -> Pools | None:
        """The instances of each kind. measured: None for its own transfer, which takes no time."""
        if self.topology == "colocated":
            return None
        rate = transfer_rate(self.system, measured) if measured else None
        return Pools(prefill=self.prefill_instances, decode=self.decode_instances, transfer=rate)

    def _run(self, scenario: DistServeScenario, points: pd.DataFrame | None, scratch: Path) -> tuple[Usage, dict[str, Any]]:
        """Write the job, run the driver, return what it used and its report."""
        checkout, python, log = self._source().checkout(), interpreter(self.environment), scratch / "log"
        job = {
            "model": scenario.model,
            "tensor_parallel": scenario.tensor_parallel,
            "times": scenario.table,
            "worker": scenario.worker,
            "pools": {**asdict(scenario.pools), "transfer": scenario.transfer} if scenario.pools else None,
            "requests": {
                "arrival": [r.arrival for r in scenario.trace],
                "prompt": [r.input_tokens for r in scenario.trace],
                "output": [r.output_tokens for r in scenario.trace],
            },
            "probes": [] if points is None else points[["new_tokens", "batch", "context"]].round().to_dict("records"),
            "out": str(scratch),
        }
        (scratch / "job.json").write_text(json.dumps(job))
        env = clean_environment(importing(checkout))
        argv = [str(python), "-P", str(DRIVER), str(scratch / "job.json")]
        usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        if not (scratch / "report.json").is_file():
            raise SimulatorError(f"distserve_sim: it ended without its report; {describe_log(log)}")
        return usage, dict(json.loads((scratch / "report.json").read_text()))


def refuse_too_long(trace: Trace) -> None:
    """Raise SimulatorError naming a request with more cached tokens than fit a decode step: the simulation would never end."""
    for request in trace:
        cached = request.input_tokens + request.output_tokens - 1
        if request.output_tokens > 1 and cached > DECODE_TOKENS:
            raise SimulatorError(
                f"distserve_sim: request {request.request_id} of {request.input_tokens} + {request.output_tokens} tokens does not fit into "
                f"the {DECODE_TOKENS:,} tokens of a decode step, which are hard-coded; leave it out"
            )
