"""Vidur (Georgia Tech and Microsoft, MIT), unedited, in an environment of its own: the PyPI package, or a clone of microsoft/vidur.

Read `Vidur.simulate` top to bottom. What goes in: files.py, and tables.py for the calibrated track, device_times.py where
times of single operations are at hand; what runs: driver.py; what comes out: records.py; how well it knows the engine's steps:
profile_times.py.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from results.operations import stored
from results.profile import Profile
from results.project.folder import ROOT
from results.record import Run, Track
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.checkout import Repository
from simulators.foreign.clone import described
from simulators.foreign.program import Usage, clean_environment, describe_log, foreign_run, interpreter, run_program
from simulators.foreign.vidur_kin import Forest
from simulators.inputs import known_limits, needed_profile, one_engine, sent_trace
from simulators.simulator import Coverage
from simulators.vidur.device_times import DeviceTimes
from simulators.vidur.files import (
    VidurLimits,
    VidurNames,
    VidurScenario,
    flags,
    grid_for,
    model_fields,
    refuse_too_long,
    shipped_files,
    unusable,
    write_package,
    write_profile,
    write_trace,
)
from simulators.vidur.profile_times import ProfileTimes
from simulators.vidur.records import read_output, records
from simulators.vidur.tables import Source, up
from workloads.trace import Trace

DRIVER = Path(__file__).with_name("driver.py")
REPORT = "report.json"  # of the driver
MEASURED = VidurNames(model="measured-model", device="measured-device", network="measured-network")
SHIPPED_BLOCK_SIZE = 16  # tokens: the only one that Vidur's own profiles were measured with
SHIPPED_GRANULARITY = 64  # tokens of context: git's default
SHIPPED_BATCH, SHIPPED_BUDGET = 128, 4096  # sequences, tokens per step: the largest of its schedulers' defaults
PREEMPTION_FAULT = "_num_stage_processed_tokens"  # what the PyPI release asserts on when a preempted request comes back


@dataclass(frozen=True, kw_only=True)
class Vidur:
    """The settings of conf/simulator/vidur.yaml, which also gives the reasons for their values; the constructor only checks them."""

    source: Source  # pypi: the package; git: its repository
    checkout: str | None  # folder of a clone, absolute or from the project's folder; None: `commit` of `repository` is fetched
    repository: str  # a git address, a clone or a bare repository
    commit: str  # what is fetched from it, all 40 digits
    paths: Sequence[str]  # the files of it that are wanted
    spare: Sequence[str]  # of these, the ones that a copy may lack: then there is no shipped track
    scheduler: Literal["sarathi", "vllm", "orca"]  # sarathi: chunked prefill; vllm: prefill first; orca: whole prompts
    watermark: float  # share of the KV blocks kept free at admission
    frontend: Literal["none", "offset"]  # offset: the profile's time per request is added to what comes out
    n_estimators: int  # trees of a random forest
    max_depth: int  # levels of a tree
    min_samples_split: int  # rows of its table that a tree still splits
    k_fold: int  # folds of the forest's cross-validation
    threads: int  # that train the forests
    seed: int  # of the training
    context_rows: int  # rows of the tables along the context axis, at most
    shipped_model: str  # of the profile that the shipped and matched tracks take, as git names it
    shipped_device: str  # of that profile
    shipped_network: str  # of that profile
    limit: float  # s of CPU time for training and simulation
    operations: Sequence[str] = ()  # folders of runs beside which times of single operations are looked for
    environment: str = "vidur"  # its environment under .envs/

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
        self._repository()

    @property
    def coverage(self) -> Coverage:
        """What this Vidur models, as configured."""
        notes = {
            "token_times": "exact, but for preempted requests, which have none",
            "context_dependent_decode": "of a batch's mean context",
            "pipeline_parallel": "it has stages, which are not used here",
            "frontend_cost": "none" if self.frontend == "none" else "the profile's, added to what comes out",
        }
        if self.source == "pypi":
            notes["preemption"] = "the PyPI release stops with an assertion when a preempted request comes back"
        if stored(self._roots()):
            notes["matched track"] = "on times of single operations of the run's own model and device, where there are some"
        return Coverage(
            chunked_prefill="yes" if self.scheduler == "sarathi" else "no",
            prefix_caching="no",
            kv_limit="yes",
            max_num_seqs="yes",
            token_budget="no" if self.scheduler == "orca" else "yes",
            preemption="no" if self.source == "pypi" else "yes",
            context_dependent_decode="yes",
            tensor_parallel="yes",
            pipeline_parallel="no",
            disaggregation="no",
            frontend_cost="no" if self.frontend == "none" else "partly",
            token_times="partly",
            gqa="yes",
            notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
        )

    def tracks(self) -> tuple[Track, ...]:
        """Calibrated always; matched where there are times of single operations; both others from a checkout whose profiles are there."""
        if self.why_not_shipped() is None:
            return ("shipped", "matched", "calibrated")
        return ("matched", "calibrated") if stored(self._roots()) else ("calibrated",)

    def why_not_shipped(self) -> str | None:
        """Why the profiles that Vidur ships cannot be had as configured; None when they can."""
        if self.source == "pypi":
            return "the PyPI release ships no profiles (simulators.vidur.source=git does)"
        try:
            return unusable(self._shipped_files().values())
        except NotAvailable as error:
            return str(error)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        calibration = self._calibration(measured, track, profile)
        scenario = self._scenario(measured, track, calibration)
        refuse_too_long(scenario, measured.limits.max_model_len)
        offset = self._offset(profile)
        try:
            argv = self._write(measured, scenario, calibration, scratch)
        except OSError as error:
            raise SimulatorError(f"vidur: its input files could not be written into {scratch}: {error}") from error
        usage, report = self._run(argv, scratch)

        log, asked = scratch / "log", scenario.trace.requests
        outcomes, steps = read_output(Path(report["output"]), asked, log)
        version = report["version"] if self.source == "pypi" else described(self._checkout())
        return foreign_run(
            self,
            measured,
            records(asked, outcomes, steps, offset=offset, log=log),
            usage,
            version=version,
            track=track,
            settings={"calibration": calibration.summary(report["predicted"], steps) if calibration else None},
            provenance={"vidur": version, "source": self.source},
            phases={"train_s": report["train_s"], "simulate_s": report["simulate_s"]},
        )

    def _calibration(self, measured: Run, track: Track, profile: Profile | None) -> ProfileTimes | DeviceTimes | None:
        """Where the times are from; None: the profiles that Vidur ships."""
        why = self.why_not_shipped()
        if track == "matched" and stored(self._roots()):
            try:
                return DeviceTimes.find(self._roots(), measured, profile)
            except NotAvailable:
                if why is not None:
                    raise
        if track != "calibrated":
            if why is not None:
                raise SimulatorError(f"vidur: no {track} track: {why}")
            return None
        return ProfileTimes.of(needed_profile(self.system, measured, profile))

    def _scenario(self, measured: Run, track: Track, calibration: ProfileTimes | DeviceTimes | None) -> VidurScenario:
        """What is to be simulated, in numbers. Raises SimulatorError when the run sent no request, NotAvailable when it lacks a limit."""
        one_engine(self.system, measured)
        trace = sent_trace(self.system, measured)
        steps = calibration is not None and calibration.whole_steps
        limits = None if track == "shipped" else _limits(measured, calibration.block_size if calibration else SHIPPED_BLOCK_SIZE)
        grid = grid_for(
            trace,
            batch=limits.batch if limits else SHIPPED_BATCH,
            budget=limits.tokens if limits else SHIPPED_BUDGET,
            whole_prompts=self.scheduler == "orca",
            granularity=self._granularity(trace) if steps else SHIPPED_GRANULARITY,
        )
        return VidurScenario(
            source=self.source,
            scheduler=self.scheduler,
            trace=trace,
            names=MEASURED if calibration else self._shipped_names(),
            limits=limits,
            measured=steps,
            tensor_parallel=measured.limits.tensor_parallel,
            watermark=self.watermark,
            grid=calibration.widen(grid) if calibration else grid,
            forest=Forest(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Forest)}),
            seed=self.seed,
        )

    def _write(self, measured: Run, scenario: VidurScenario, calibration: ProfileTimes | DeviceTimes | None, scratch: Path) -> list[str]:
        """Write every input file, and return the command line."""
        job: dict[str, Any] = {"model": None, "device": None, "node": None, "probes": [], "report": str(scratch / REPORT)}
        files: Mapping[str, Path] | None = None if calibration else self._shipped_files()
        write_trace(scenario.trace, self.source, scratch / "trace.csv")
        if calibration:
            model = _model(measured, scenario)
            job |= {"model": model, "device": _device(measured), "node": {"name": MEASURED.network, "num_devices_per_node": 1024}}
            job |= {"probes": calibration.probes()}
            tables = calibration.tables(scenario.grid, model["num_layers"], self.source)
            files = write_profile(*tables, scenario, model, scratch / "cache")
        if self.source == "git":
            write_package(self._checkout(), scratch / "package")
        (scratch / "job.json").write_text(json.dumps(job, indent=1))
        words = flags(scenario, trace=scratch / "trace.csv", out=scratch / "out", cache=scratch / "cache", files=files)
        # -P: or `import vidur` beside the driver would be this very file
        return [str(interpreter(self.environment)), "-P", str(DRIVER), str(scratch / "job.json"), *words]

    def _run(self, argv: Sequence[str], scratch: Path) -> tuple[Usage, dict[str, Any]]:
        """Run the driver; return what it used and its report."""
        log, report = scratch / "log", scratch / REPORT
        env = clean_environment({"PYTHONPATH": str(scratch / "package")} if self.source == "git" else {})
        try:
            usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        except SimulatorError as error:
            raise _explained(error, log) from error
        if not report.is_file():
            raise SimulatorError(f"vidur: it ended without its report; {describe_log(log)}")
        return usage, json.loads(report.read_text())

    def _roots(self) -> list[Path]:
        """Folders of runs, beside which times of single operations are looked for."""
        return [ROOT / root for root in self.operations]

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

    def _repository(self) -> Repository:
        return Repository(name=self.system, url=self.repository, commit=self.commit, paths=self.paths, spare=self.spare)

    def _checkout(self) -> Path:
        """Raises NotAvailable where it cannot be fetched."""
        return (ROOT / self.checkout).resolve() if self.checkout else self._repository().checkout()

    def _shipped_names(self) -> VidurNames:
        return VidurNames(model=self.shipped_model, device=self.shipped_device, network=self.shipped_network)

    def _shipped_files(self) -> dict[str, Path]:
        return shipped_files(self._checkout(), self._shipped_names())


def _limits(measured: Run, block_size: int | None) -> VidurLimits:
    """The engine's own limits; block_size: in place of the engine's (the KV capacity in tokens stays)."""
    names = ("kv_tokens", "max_num_seqs", "max_num_batched_tokens", *(() if block_size else ("block_size",)))
    kv_tokens, batch, tokens, *own = known_limits("vidur", measured, names)
    block = block_size or own[0]
    return VidurLimits(num_blocks=kv_tokens // block, block_size=block, batch=batch, tokens=tokens)


def _model(measured: Run, scenario: VidurScenario) -> dict[str, Any]:
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
