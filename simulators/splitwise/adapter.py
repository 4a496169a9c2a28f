"""Splitwise-sim (Patel et al., ISCA 2024; MIT), unedited, from a pinned commit of its git repository, in an environment of its own.

What its time model can express: the step of a batch of prompts as a function of their tokens in all, and a decode step as a function of
the number of its sequences, both from a table, linear between its rows. What it cannot: the context (a decode step takes as long at 100
cached tokens as at 100,000; the calibrated table holds the times at the requests' mean context), chunks of a prompt (a prompt
runs whole, and by itself when it is longer than the token budget; the table holds the sum of its chunks), the difference between one long
prompt and several short ones (instance=orca lets many into one step; beyond the budget its table holds prompts of typical length), prefix
caching, pipeline stages, any cost outside the steps.
A step with both prompts and decodes takes 1.1 times that of prompts of as many tokens, whatever was measured.

Read `SplitwiseSim.simulate` top to bottom. What goes in: files.py; what runs: driver.py; what
comes out: records.py.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from results.profile import Profile
from results.record import Run, Track
from simulators.errors import SimulatorError
from simulators.foreign.checkout import Repository, importing
from simulators.foreign.program import Usage, clean_environment, describe_log, foreign_run, interpreter, run_program
from simulators.foreign.step_points import fit, residuals, whole_points, wild, with_context
from simulators.inputs import (
    Pools,
    handed_over,
    known_limits,
    kv_shape,
    labelled,
    needed_profile,
    one_engine,
    sent_trace,
    tokens_per_request,
    transfer_rate,
)
from simulators.simulator import Coverage
from simulators.splitwise.files import ENGINE, SHIFT, SplitwiseLimits, SplitwiseNames, SplitwiseScenario, asked_tokens, write_job
from simulators.splitwise.records import LOCKED, read_results, to_records

NAME = "splitwise_sim"
DRIVER = Path(__file__).with_name("driver.py")
SHIPPED = {  # its models and their tensor parallelisms
    "llama2-70b": (4, 8),  # 2 is missing: its rows at 32,768 tokens are corrupt (0.36 s a prompt; 2.4 s at half as many)
    "bloom-176b": (8,),
}
CANNOT_EXPRESS = "decodes at other contexts than one, chunks on cached tokens, mixed steps but as 1.1 times that of prompts"
HARDWARE = ("a100-80gb", "h100-80gb", "h100-80gb-pcap")
NOTHING_FINISHED = "zero-size array to reduction"  # its error when it locks up (records.LOCKED) before any request has finished


@dataclass(frozen=True, kw_only=True)
class SplitwiseSim:
    """The simulator; conf/simulator/splitwise_sim.yaml says more of each setting, and the constructor only checks them."""

    repository: str  # a git address, a clone or a bare repository
    commit: str  # what is fetched from it, all 40 digits
    instance: Literal["splitwise", "orca"]  # orca: first come, first served; splitwise: its own default, prompts first
    max_preemptions: int  # times that arriving prompts may push a decode aside (splitwise only)
    topology: Literal["colocated", "pd"]  # pd: prefill and decode on instances of their own
    prefill_instances: int  # of topology pd
    decode_instances: int  # of topology pd
    shipped_model: str  # model of its own profile that comes nearest, for the shipped and matched tracks
    shipped_hardware: str  # hardware of that profile
    shipped_tensor_parallel: int  # devices of that profile
    limit: float  # s of CPU time for a simulation
    environment: str = NAME  # name under .envs/

    def __post_init__(self) -> None:
        if self.instance not in ("splitwise", "orca"):
            raise ValueError(f"simulator splitwise_sim: instance must be splitwise or orca, got {self.instance!r}")
        if self.topology not in ("colocated", "pd"):
            raise ValueError(f"simulator splitwise_sim: topology must be colocated or pd, got {self.topology!r}")
        if min(self.prefill_instances, self.decode_instances) < 1:
            got = f"{self.prefill_instances} and {self.decode_instances}"
            raise ValueError(f"simulator splitwise_sim: prefill_instances and decode_instances must be >= 1, got {got}")
        if self.shipped_tensor_parallel not in SHIPPED.get(self.shipped_model, ()):
            usable = "; ".join(f"{model} at tensor parallelism {' or '.join(map(str, tp))}" for model, tp in SHIPPED.items())
            raise ValueError(
                f"simulator splitwise_sim: shipped_model {self.shipped_model} at tensor parallelism {self.shipped_tensor_parallel} has no "
                f"usable times; it ships {usable}"
            )
        if self.max_preemptions < 0 or not self.limit > 0:
            raise ValueError(
                f"simulator splitwise_sim: max_preemptions must be >= 0 and limit > 0 s, got {self.max_preemptions}, {self.limit}"
            )
        if self.shipped_hardware not in HARDWARE:
            known = ", ".join(HARDWARE)
            raise ValueError(f"simulator splitwise_sim: shipped_hardware must be one of {known}, got {self.shipped_hardware!r}")
        self._source()

    @property
    def system(self) -> str:
        """See Simulator."""
        return labelled(NAME, self.topology)

    @property
    def coverage(self) -> Coverage:
        """What it models, as configured."""
        orca = self.instance == "orca"
        notes = {
            "chunked_prefill": "a prompt longer than the token budget runs whole, alone",
            "kv_limit": "a request's answer is reserved whole when its first token is there",
            "max_num_seqs": "held"
            if orca
            else "of one step only: prompts go first and decodes stand aside with their KV cache, so under load more requests take turns",
            "preemption": "none" if orca else "of decodes by prompts, within the step's budget; never for want of KV cache",
            "tensor_parallel": "as profiled in the calibrated track, in the others that of the shipped times, whatever the run's",
            "gqa": "in the bytes of a cached token, and as profiled; its shipped times are of a model of their own",
        }
        return Coverage(
            chunked_prefill="no",
            prefix_caching="no",
            kv_limit="partly",
            max_num_seqs="yes" if orca else "partly",
            token_budget="no" if orca else "partly",
            preemption="no" if orca else "partly",
            context_dependent_decode="no",
            tensor_parallel="partly",
            pipeline_parallel="no",
            disaggregation="yes",
            frontend_cost="no",
            token_times="yes",
            gqa="partly",
            notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
        )

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        scenario = self._scenario(measured, track, profile)
        refuse_too_large(scenario)
        points = with_context(whole_points(profile), scenario.context) if scenario.times and profile else None
        usage, report = self._run(scenario, points, scratch)

        log, requests = scratch / "log", scenario.trace.requests
        out = np.load(scratch / "tokens.npz")
        results = read_results(scratch / "detailed" / "0.csv", requests, log)
        tokens = tokens_per_request(out["request"], out["time"] - SHIFT, len(requests))
        records = to_records(requests, results, tokens, log, unseen=1 if scenario.pools else 0)
        calibration = None
        if scenario.times and profile and points is not None:
            calibration = {
                "profile": profile.profile_id,
                "decode_context": scenario.context,
                "cannot_express": CANNOT_EXPRESS,
                "residuals": residuals(points, report["predicted"]),
                "wild_points": int(wild(profile.points(held_out=False)).sum()),
                "points_it_cannot_express": int((profile.points()["prefill_context"] > 0).sum()),
                "steps": int(out["steps"].sum()),
                "steps_outside": _count_outside(scenario, out),
            }
        return foreign_run(
            self,
            measured,
            records,
            usage,
            version=self._source().version,
            track=track,
            settings={
                "times_from": profile.profile_id if calibration and profile else f"its own: {self._shipped()}",
                "limits": asdict(scenario.limits) if scenario.limits else "its own defaults",
                "pools": asdict(scenario.pools) if scenario.pools else None,
                "calibration": calibration,
                "simulate_s": report["simulate_s"],
            },
            provenance=self._source().provenance,
        )

    def _source(self) -> Repository:
        return Repository(name=NAME, url=self.repository, commit=self.commit)

    def _shipped(self) -> str:
        return f"{self.shipped_model} on {self.shipped_tensor_parallel} x {self.shipped_hardware}"

    def _scenario(self, measured: Run, track: Track, profile: Profile | None) -> SplitwiseScenario:
        """What is to be simulated. Raises SimulatorError when the track, the profile or a limit is not to be had."""
        one_engine(self.system, measured)
        trace, apart = sent_trace(self.system, measured), self.topology == "pd"
        shipped, calibrated = track == "shipped", track == "calibrated"
        limits = None
        if not shipped:
            kv_tokens, batch, budget = known_limits(self.system, measured, ("kv_tokens", "max_num_seqs", "max_num_batched_tokens"))
            kv = kv_shape(self.system, measured.config.get("model") or {})
            limits = SplitwiseLimits(kv_tokens=kv_tokens, kv=kv, batch=batch, budget=budget, preemptions=self.max_preemptions)
        return SplitwiseScenario(
            trace=handed_over(trace) if apart else trace,
            names=ENGINE if calibrated else SplitwiseNames(model=self.shipped_model, hardware=self.shipped_hardware),
            instance=self.instance,
            tensor_parallel=measured.limits.tensor_parallel if calibrated else self.shipped_tensor_parallel,
            limits=limits,
            times=fit(self.system, needed_profile(self.system, measured, profile)) if calibrated else None,
            pools=self._pools(measured, shipped) if apart else None,
        )

    def _pools(self, measured: Run, shipped: bool) -> Pools:
        rate = None if shipped else transfer_rate(self.system, measured)
        return Pools(prefill=self.prefill_instances, decode=self.decode_instances, transfer=rate)

    def _run(self, scenario: SplitwiseScenario, points: pd.DataFrame | None, scratch: Path) -> tuple[Usage, dict[str, Any]]:
        """Write the files, run the driver, return what it used and its report."""
        checkout, python, log = self._source().checkout(), interpreter(self.environment), scratch / "log"
        job = {**write_job(scenario, scratch), "checkout": str(checkout), "out": str(scratch), "probes": _probes(points)}
        (scratch / "job.json").write_text(json.dumps(job, indent=1))
        env = clean_environment(importing(checkout))
        argv = [str(python), "-P", str(DRIVER), str(scratch / "job.json")]
        try:
            usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        except SimulatorError as error:
            if NOTHING_FINISHED not in str(error):
                raise
            raise SimulatorError(f"{error}; {LOCKED}") from error
        if not (scratch / "report.json").is_file():
            raise SimulatorError(f"splitwise_sim: it ended without its report; {describe_log(log)}")
        return usage, dict(json.loads((scratch / "report.json").read_text()))


def refuse_too_large(scenario: SplitwiseScenario) -> None:
    """Raise SimulatorError naming a request that would never fit: that request and all after it would be missing from the output."""
    for request in scenario.trace:
        total = request.input_tokens + asked_tokens(request)
        if scenario.limits is not None and total > scenario.limits.kv_tokens:
            raise SimulatorError(
                f"splitwise_sim: request {request.request_id} of {request.input_tokens} + {request.output_tokens} tokens does not fit into "
                f"{scenario.limits.kv_tokens} tokens of KV cache; leave it out"
            )


def _probes(points: pd.DataFrame | None) -> list[dict[str, int]]:
    if points is None:
        return []
    return [{"tokens": round(new), "batch": round(batch)} for new, batch in zip(points["new_tokens"], points["batch"], strict=True)]


def _count_outside(scenario: SplitwiseScenario, out: Any) -> int:
    """Count steps outside of what the profile measured: there the step times go on along their last slope."""
    assert scenario.times is not None and scenario.limits is not None
    outside = 0
    for prompt, decodes, steps in zip(out["prompt_tokens"].tolist(), out["decodes"].tolist(), out["steps"].tolist(), strict=True):
        chunk = min(int(prompt), scenario.limits.budget)
        beyond = scenario.times.outside(tokens=chunk, prefill_context=int(prompt) - chunk, batch=int(decodes), context=scenario.context)
        outside += int(steps) * beyond
    return outside
