"""Vidur (Georgia Tech and Microsoft, MIT), unedited, in an environment of its own: the PyPI package, or a clone of microsoft/vidur.

Read `Vidur.simulate` top to bottom. What goes in: vidur_files.py, and vidur_profile.py for the calibrated track; what runs:
vidur_driver.py; what comes out: vidur_records.py; how well it knows the engine's steps: vidur_calibration.py.
"""

import dataclasses
import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from results.profile import Profile
from results.record import Run, Track
from simulators.external import ROOT, Usage, clean_environment, describe_log, interpreter, run_program
from simulators.system import Coverage, SimulatorError
from simulators.vidur_calibration import count_outside, probes, residuals, step_points, widen
from simulators.vidur_files import (
    Forest,
    Limits,
    Names,
    Scenario,
    flags,
    grid_for,
    model_fields,
    shipped_files,
    unusable,
    write_package,
    write_profile,
    write_trace,
)
from simulators.vidur_profile import Source, StepTimes, up
from simulators.vidur_records import read_outcomes, read_steps, records
from workloads.trace import Trace

DRIVER = Path(__file__).with_name("vidur_driver.py")
MEASURED = Names(model="measured-model", device="measured-device", network="measured-network")
SHIPPED_BLOCK_SIZE = 16  # tokens: the only one that Vidur's own profiles were measured with
SHIPPED_GRANULARITY = 64  # tokens of context: git's default
SHIPPED_BATCH, SHIPPED_BUDGET = 128, 4096  # sequences, tokens per step: the largest of its schedulers' defaults
PREEMPTION_FAULT = "_num_stage_processed_tokens"  # what the PyPI release asserts on when a preempted request comes back


@dataclass(frozen=True, kw_only=True)
class Vidur:
    """conf/simulator/vidur.yaml says what each setting means; the constructor only checks them."""

    source: Source
    checkout: str | None
    scheduler: Literal["sarathi", "vllm", "orca"]
    watermark: float
    frontend: Literal["none", "offset"]
    n_estimators: int
    max_depth: int
    min_samples_split: int
    k_fold: int
    threads: int
    seed: int
    context_rows: int
    shipped_model: str
    shipped_device: str
    shipped_network: str
    limit: float
    environment: str = "vidur"

    system: ClassVar[str] = "vidur"

    def __post_init__(self) -> None:
        choices = {"source": ("pypi", "git"), "scheduler": ("sarathi", "vllm", "orca"), "frontend": ("none", "offset")}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"simulator vidur: {field} must be one of {', '.join(allowed)}, got {getattr(self, field)!r}")
        least = {"n_estimators": 1, "max_depth": 1, "min_samples_split": 2, "k_fold": 2, "threads": 1, "context_rows": 2, "seed": 0}
        for field, low in least.items():
            if getattr(self, field) < low:
                raise ValueError(f"simulator vidur: {field} must be >= {low}, got {getattr(self, field)}")
        if not 0 <= self.watermark < 1 or not self.limit > 0:
            raise ValueError(f"simulator vidur: watermark must be in [0, 1) and limit > 0 s, got {self.watermark} and {self.limit}")
        if self.source == "git" and not self.checkout:
            raise ValueError("simulator vidur: source=git needs simulators.vidur.checkout, the folder of a clone of microsoft/vidur")

    @property
    def coverage(self) -> Coverage:
        """What this Vidur models, as configured."""
        notes = {
            "token_times": "exact, but for preempted requests, which have none",
            "context_dependent_decode": "of a batch's mean context",
            "frontend_cost": "none" if self.frontend == "none" else "the profile's, added to what comes out",
        }
        if self.source == "pypi":
            notes["preemption"] = "the PyPI release stops with an assertion when a preempted request comes back"
        return Coverage(
            chunked_prefill="yes" if self.scheduler == "sarathi" else "no",
            prefix_caching="no",
            kv_limit="yes",
            preemption="no" if self.source == "pypi" else "yes",
            context_dependent_decode="yes",
            tensor_parallel="yes",
            pipeline_parallel="yes",
            disaggregation="no",
            frontend_cost="no" if self.frontend == "none" else "partly",
            token_times="partly",
            gqa="yes",
            notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
        )

    def tracks(self) -> tuple[Track, ...]:
        """Calibrated always; the others only from a checkout whose profiles are really there."""
        return ("calibrated",) if self.why_not_shipped() else ("shipped", "matched", "calibrated")

    def why_not_shipped(self) -> str | None:
        """Why the shipped and matched tracks cannot be run as configured; None when they can."""
        if self.source == "pypi":
            return "the PyPI release ships no profiles (simulators.vidur.source=git with a checkout does)"
        return unusable(self._shipped_files().values())

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError: one line, what, where, what to do."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        scenario = self._scenario(measured, track, profile)
        refuse_too_long(scenario, measured.limits.max_model_len)
        offset = self._offset(profile)
        times = StepTimes.fit(profile) if track == "calibrated" and profile else None
        usage, report = self._run(measured, scenario, profile if times else None, times, scratch)

        requests, log, out = scenario.trace.requests, scratch / "log", Path(report["output"])
        outcomes = read_outcomes(out, requests, log)
        steps = read_steps(out, requests)
        done = records(requests, {r.request_id: r.arrival for r in measured.trace}, outcomes, steps, offset=offset, log=log)
        asked = dataclasses.replace(measured.trace, requests=tuple(r for r in measured.trace if r.request_id in done))
        calibration = None
        if times and profile:
            calibration = {
                "profile": profile.profile_id,
                "measured": {axis: list(ends) for axis, ends in times.measured.items()},
                "residuals": residuals(step_points(profile), report["predicted"]),
                "steps": len(steps),
                "steps_outside": count_outside(steps, times),
            }
        settings = {"name": self.system, **dataclasses.asdict(self), "coverage": dataclasses.asdict(self.coverage)}
        timing = {**dataclasses.asdict(usage), "train_s": report["train_s"], "simulate_s": report["simulate_s"]}
        return dataclasses.replace(
            measured,
            run_id=f"{measured.run_id}--{self.system}-{track}",
            kind="simulated",
            system=self.system,
            version=report["version"] if self.source == "pypi" else commit(self._checkout()),
            trace=asked,
            records=tuple(done[r.request_id] for r in asked),
            started_at=started,
            wall_s=usage.wall_s,
            track=track,
            measured_run_id=measured.run_id,
            valid=True,
            invalid_reason=None,
            config={**measured.config, "simulator": {**settings, "calibration": calibration, "timing": timing}},
            provenance={"vidur": report["version"] if self.source == "pypi" else commit(self._checkout()), "source": self.source},
            telemetry=None,
        )

    def _scenario(self, measured: Run, track: Track, profile: Profile | None) -> Scenario:
        """What is to be simulated, in numbers. Raises SimulatorError when the track, the profile or a limit is not to be had."""
        calibrated = track == "calibrated"
        if calibrated and profile is None:
            raise SimulatorError(f"vidur: the calibrated track of run {measured.run_id} needs a profile of its engine; measure one first")
        if not calibrated and (why := self.why_not_shipped()):
            raise SimulatorError(f"vidur: no {track} track: {why}")
        if all(r.sent is None for r in measured.records):
            raise SimulatorError(f"vidur: run {measured.run_id} sent no request, so there is nothing to simulate")
        trace = measured.trace_as_sent()
        limits = None if track == "shipped" else _limits(measured, None if calibrated else SHIPPED_BLOCK_SIZE)
        grid = grid_for(
            trace,
            batch=limits.batch if limits else SHIPPED_BATCH,
            budget=limits.tokens if limits else SHIPPED_BUDGET,
            whole_prompts=self.scheduler == "orca",
            granularity=self._granularity(trace) if calibrated else SHIPPED_GRANULARITY,
        )
        return Scenario(
            source=self.source,
            scheduler=self.scheduler,
            trace=trace,
            names=MEASURED if calibrated else self._shipped_names(),
            limits=limits,
            measured=calibrated,
            tensor_parallel=measured.limits.tensor_parallel,
            watermark=self.watermark,
            grid=widen(grid, step_points(profile)) if calibrated and profile else grid,
            forest=Forest(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Forest)}),
        )

    def _run(
        self, measured: Run, scenario: Scenario, profile: Profile | None, times: StepTimes | None, scratch: Path
    ) -> tuple[Usage, dict[str, Any]]:
        """Write the files, run the driver, return what it used and its report."""
        python = interpreter(self.environment)
        job: dict[str, Any] = {"model": None, "device": None, "node": None, "probes": [], "report": str(scratch / "report.json")}
        files: Mapping[str, Path] | None
        write_trace(scenario.trace, self.source, scratch / "trace.csv")
        if profile and times:
            model = _model(measured, scenario)
            job |= {"model": model, "device": _device(measured), "node": {"name": MEASURED.network, "num_devices_per_node": 1024}}
            job["probes"] = probes(step_points(profile))
            files = write_profile(times, scenario, model, scratch / "cache")
        else:
            files = self._shipped_files()
        (scratch / "job.json").write_text(json.dumps(job, indent=1))
        words = flags(scenario, trace=scratch / "trace.csv", out=scratch / "out", cache=scratch / "cache", files=files)
        env = clean_environment({"PYTHONPATH": str(write_package(self._checkout(), scratch))} if self.source == "git" else {})
        argv = [str(python), "-P", str(DRIVER), str(scratch / "job.json"), *words]  # -P: or our own vidur.py would be imported
        log = scratch / "log"
        try:
            usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        except SimulatorError as error:
            raise _explained(error, log) from error
        if not (scratch / "report.json").is_file():
            raise SimulatorError(f"vidur: it ended without its report; {describe_log(log)}")
        return usage, json.loads((scratch / "report.json").read_text())

    def _granularity(self, trace: Trace) -> int:
        """Tokens between two contexts of the tables: at most `context_rows` of them, whole multiples of 32."""
        longest = max(r.input_tokens + r.output_tokens for r in trace)
        return max(32, up(longest / self.context_rows, 32))

    def _offset(self, profile: Profile | None) -> float:
        if self.frontend == "none":
            return 0.0
        if profile is None or profile.frontend is None:
            raise SimulatorError("vidur: frontend=offset needs a profile with front-end samples; set simulators.vidur.frontend=none")
        return profile.frontend

    def _checkout(self) -> Path:
        return (ROOT / str(self.checkout)).resolve()

    def _shipped_names(self) -> Names:
        return Names(model=self.shipped_model, device=self.shipped_device, network=self.shipped_network)

    def _shipped_files(self) -> dict[str, Path]:
        return shipped_files(self._checkout(), self._shipped_names())


def refuse_too_long(scenario: Scenario, max_model_len: int | None) -> None:
    """Raise SimulatorError naming the first request that Vidur would cut, never schedule, or restart for ever."""
    limits = scenario.limits
    for request in scenario.trace:
        total, where = request.input_tokens + request.output_tokens, f"vidur: request {request.request_id} of {request.input_tokens}"
        if max_model_len is not None and total > max_model_len:
            raise SimulatorError(f"{where} + {request.output_tokens} tokens is longer than the model's {max_model_len}; leave it out")
        if limits is None:
            continue
        blocks = math.ceil(total / limits.block_size) + int(scenario.watermark * limits.num_blocks)
        if blocks > limits.num_blocks:
            kv = limits.num_blocks * limits.block_size
            raise SimulatorError(f"{where} + {request.output_tokens} tokens does not fit into {kv} tokens of KV cache; leave it out")
        if scenario.scheduler == "vllm" and request.input_tokens > limits.tokens:
            raise SimulatorError(f"{where} tokens exceeds the {limits.tokens} of a step, and scheduler=vllm cuts no prompt; use sarathi")


def commit(checkout: Path) -> str:
    """The checkout's commit, `git-1234567`; `git` where git cannot tell."""
    asked = subprocess.run(["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"git-{asked.stdout.strip()}" if asked.returncode == 0 else "git"


def _limits(measured: Run, block_size: int | None) -> Limits:
    """The engine's own limits; block_size: in place of the engine's (the KV capacity in tokens stays)."""
    said = measured.limits
    needed = ("kv_tokens", "max_num_seqs", "max_num_batched_tokens", *(() if block_size else ("block_size",)))
    unknown = [name for name in needed if getattr(said, name) is None]
    if unknown:
        raise SimulatorError(f"vidur: run {measured.run_id} does not say the engine's {', '.join(unknown)}, so Vidur cannot be set alike")
    block = block_size or int(said.block_size or 0)
    kv, batch, tokens = (int(value or 0) for value in (said.kv_tokens, said.max_num_seqs, said.max_num_batched_tokens))
    return Limits(num_blocks=kv // block, block_size=block, batch=batch, tokens=tokens)


def _model(measured: Run, scenario: Scenario) -> dict[str, Any]:
    config = measured.config.get("model") or {}
    length = measured.limits.max_model_len or config.get("max_position_embeddings") or scenario.max_tokens
    try:
        return model_fields(MEASURED.model, config, int(length), scenario.source)
    except KeyError as error:
        raise SimulatorError(f"vidur: the model of run {measured.run_id} has no {error.args[0]} in its config.json") from error


def _device(measured: Run) -> dict[str, Any]:
    """The memory only bounds orca's batch, as the KV capacity is given; the compute rate is never read, as the steps are measured."""
    memory = (measured.config.get("hardware") or {}).get("memory_gb")
    if not memory:
        raise SimulatorError(f"vidur: run {measured.run_id} does not say its hardware's memory_gb; set it in conf/hardware")
    return {"name": MEASURED.device, "total_memory_gb": float(memory), "fp16_tflops": 1}


def _explained(error: SimulatorError, log: Path) -> SimulatorError:
    """The same error, with its cause where it is a known fault."""
    if log.is_file() and PREEMPTION_FAULT in log.read_text(errors="replace"):
        return SimulatorError(
            f"vidur: a request had to be preempted for want of KV cache, which the PyPI release cannot simulate (it asserts); "
            f"use a lower load, or simulators.vidur.source=git; log {log}"
        )
    return error
