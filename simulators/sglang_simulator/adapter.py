"""SGLang's own simulator (sgl-project/sglang, tools/sglang-simulator, Apache-2.0), unedited, from a clone that the user names.

SGLang's scheduler, radix cache and request lifecycle run as they are, on a CPU, in logical time (its mode OFFLINE); what a GPU would
compute is left out, and a predictor says how long it would have taken. A step's time is the predicted one plus the time that the scheduler
really took for it on this machine, so no two runs are alike, and a slow or busy machine makes all latencies longer. It never overlaps the
schedule with the computation, which SGLang's servers do.

Tracks. shipped: its predictor `aiconfigurator` with SGLang's operation times of the run's GPU, and SGLang's own limits. matched: the same
with the engine's limits. calibrated: the engine's limits and its step times, by its predictor `ml` (steps.py). Whatever engine was
measured, it is SGLang's scheduler that is simulated.

Read `SglangSimulator.simulate` top to bottom. What of the clone must be there: clone.py; what goes in: files.py and steps.py; what comes
out: records.py; what runs in SGLang's environment: inside/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from results.profile import Profile
from results.record import Run, Track
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.checkout import BYTECODE, CACHE
from simulators.foreign.clone import described
from simulators.foreign.program import Usage, clean_environment, foreign_run, interpreter, run_program
from simulators.foreign.versions import by_nearness
from simulators.inputs import known_limits, needed_profile, one_engine, sent_trace
from simulators.sglang_simulator.clone import ADDRESS, SYSTEM, simulator_of
from simulators.sglang_simulator.failures import cause, misfit
from simulators.sglang_simulator.files import STAND_IN, SglangLimits, SglangScenario, refuse_too_long, write_job
from simulators.sglang_simulator.records import Output, records
from simulators.sglang_simulator.steps import StepTable
from simulators.simulator import Coverage
from workloads.trace import Trace

INSIDE = Path(__file__).with_name("inside")
GIB = 2**30 / 1e9  # GB
NOTES = {
    "scheduler": "SGLang's, also where another engine was measured: prompts first, in steps of their own, decodes in the steps between",
    "chunked_prefill": "decodes wait for all pieces of a prompt, as in an SGLang without mixed chunks",
    "token_budget": "of a prefill step's new tokens; sequences that decode do not count",
    "time": "to each step the time is added that its scheduler really took on this machine, so no two runs are alike",
    "schedule": "never overlapped with the computation, which SGLang's servers do",
    "context_dependent_decode": "in the shipped and matched tracks of a batch's mean context",
    "tensor_parallel": "as profiled in the calibrated track; in the others by its predictor",
    "gqa": "in the calibrated track as profiled",
    "experts": "in the shipped and matched tracks by its predictor; in a calibrated step whatever was measured",
    "preemption": "a request that is retracted and whose prompt is then computed in chunks is counted wrong, so such a run fails",
    "disaggregation, speculation, windows, latent attention, host cache": "SGLang has them, which are not used here",
}


@dataclass(frozen=True, kw_only=True)
class SglangSimulator:
    """The settings of conf/simulator/sglang_simulator.yaml, which says more of each; the constructor only checks them."""

    checkout: str | None  # folder of a clone, absolute or from the project's folder; None: it is not available
    devices: Mapping[str, Mapping[str, Any]]  # name in conf/hardware to AIConfigurator's system, and the SGLang versions of its times
    database_mode: str  # of its predictor aiconfigurator
    limit: float  # s of CPU time for a simulation
    environment: str = SYSTEM  # its environment under .envs/

    system: ClassVar[str] = SYSTEM
    coverage: ClassVar[Coverage] = Coverage(
        chunked_prefill="yes",
        prefix_caching="yes",
        kv_limit="yes",
        max_num_seqs="yes",
        token_budget="partly",
        preemption="partly",
        context_dependent_decode="yes",
        tensor_parallel="partly",
        pipeline_parallel="no",
        disaggregation="no",
        frontend_cost="no",
        token_times="yes",
        gqa="partly",
        experts="partly",
        notes="; ".join(f"{what}: {note}" for what, note in NOTES.items()),
    )

    def __post_init__(self) -> None:
        modes = ("SILICON", "HYBRID", "EMPIRICAL", "SOL")
        if self.database_mode not in modes:
            raise ValueError(f"simulator {SYSTEM}: database_mode must be one of {', '.join(modes)}, got {self.database_mode!r}")
        if not self.limit > 0:
            raise ValueError(f"simulator {SYSTEM}: limit must be > 0 s, got {self.limit}")

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator. Whether there are operation times is known only of a run's GPU."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        source = simulator_of(self.checkout)
        one_engine(SYSTEM, measured)
        trace = sent_trace(SYSTEM, measured)
        limits = None if track == "shipped" else self._limits(measured)
        steps = self._steps(measured, profile, trace, limits) if track == "calibrated" and limits else None
        scenario = self._scenario(measured, trace, limits, calibrated=steps is not None, scratch=scratch)
        refuse_too_long(scenario)

        usage, output = self._run(source, scenario, steps, scratch)
        log, asked = scratch / "log", trace.requests
        found, version = records(output, asked, scenario.start, log), described(source)
        return foreign_run(
            self,
            measured,
            found,
            usage,
            version=version,
            track=track,
            settings={
                "times_from": steps.profile_id
                if steps
                else f"AIConfigurator's, of SGLang {scenario.version} on {scenario.accelerator['name']}",
                "scheduler_of": f"SGLang {output.report['sglang']}",
                "limits": asdict(limits) if limits else "its own defaults",
                "kv_tokens": output.report["kv_tokens"],
                "steps": len(output.steps),
                "predicted_s": output.seconds("forward_latency"),
                "scheduler_s": output.seconds("cpu_overhead"),  # that this machine took, within the simulated time
                "calibration": self._calibration(steps, output) if steps else None,
            },
            provenance={SYSTEM: version, "repository": ADDRESS, "sglang": output.report["sglang"]},
            phases={"simulate_s": output.report["simulate_s"]},
        )

    def _limits(self, measured: Run) -> SglangLimits:
        """The engine's own. Raises NotAvailable naming those that the run does not say."""
        names = ("kv_tokens", "max_num_seqs", "max_num_batched_tokens", "block_size")
        kv_tokens, batch, budget, page = known_limits(SYSTEM, measured, names)
        chunks = measured.limits.chunked_prefill is not False
        return SglangLimits(
            kv_tokens=kv_tokens,
            page=page,
            batch=batch,
            chunk=budget if chunks else -1,
            budget=budget,
            prefix_caching=bool(measured.limits.prefix_caching),
        )

    def _steps(self, measured: Run, profile: Profile | None, trace: Trace, limits: SglangLimits) -> StepTable:
        """The profile's step times for any step that these limits allow: a prompt that is cut nowhere may be longer than the budget."""
        longest = max(limits.budget, *(r.input_tokens + r.output_tokens for r in trace))
        return StepTable.of(SYSTEM, needed_profile(SYSTEM, measured, profile), tokens=longest + limits.page, batch=limits.batch)

    def _scenario(self, measured: Run, trace: Trace, limits: SglangLimits | None, *, calibrated: bool, scratch: Path) -> SglangScenario:
        """Raises NotAvailable when there are no operation times of the run's GPU, or its model is not said."""
        if calibrated:
            predictor = {"name": "ml", "database_path": str(scratch / "steps.pkl")}
            own: dict[str, Any] = {"model": STAND_IN, "predictor": predictor, "accelerator": {"name": "profiled"}, "version": None}
        else:
            device, asked = self._device(measured), measured.version if measured.system == "sglang" else None
            memory = (measured.config.get("hardware") or {}).get("memory_gb")
            own = {
                "model": self._model(measured),
                "predictor": {"name": "aiconfigurator", "database_mode": self.database_mode},
                "accelerator": {"name": device["system"], **({"hbm_capacity_gb": memory / GIB} if memory else {})},
                "version": by_nearness(device["versions"], asked)[0],
            }
        return SglangScenario(trace=trace, limits=limits, tensor_parallel=measured.limits.tensor_parallel, **own)

    def _device(self, measured: Run) -> Mapping[str, Any]:
        if measured.hardware not in self.devices:
            raise NotAvailable(
                f"{SYSTEM}: AIConfigurator has no operation times of SGLang on {measured.hardware}, only on {', '.join(self.devices)} "
                f"(simulators.{SYSTEM}.devices); the calibrated track needs none"
            )
        return self.devices[measured.hardware]

    def _model(self, measured: Run) -> Mapping[str, Any]:
        model = measured.config.get("model") or {}
        missing = [name for name in ("architectures", "model_type", "vocab_size") if not model.get(name)]
        if missing:
            raise NotAvailable(
                f"{SYSTEM}: run {measured.run_id} does not say the model's {', '.join(missing)}, by which SGLang knows it (config.json); "
                "the calibrated track needs none"
            )
        if model.get("quantization_config"):
            raise NotAvailable(f"{SYSTEM}: the shipped and matched tracks are of weights in 16 bits, and the run's model has fewer")
        return dict(model)

    def _run(self, source: Path, scenario: SglangScenario, steps: StepTable | None, scratch: Path) -> tuple[Usage, Output]:
        """Write the files, run the driver, read what it wrote."""
        job, settings = write_job(scenario, steps.fields if steps else None, scratch)
        log, out = scratch / "log", scratch / "out"
        env = clean_environment(
            {
                "PYTHONPATH": f"{source}:{INSIDE}",
                "PYTHONPYCACHEPREFIX": str(CACHE / BYTECODE),  # the clone stays as it is
                "CUDA_VISIBLE_DEVICES": "",
                "SGLANG_SIMULATOR_CONFIG_PATH": str(settings),
                "SGLANG_SIMULATOR_OUTPUT_DIR": str(out),
                "SGLANG_SIMULATOR_OUTPUT_MODE": "OFFLINE",
            }
        )
        argv: Sequence[str] = [str(interpreter(self.environment)), "-P", str(INSIDE / "driver.py"), str(job)]
        try:
            usage = run_program(SYSTEM, argv, cwd=scratch, log=log, limit=self.limit, env=env)
        except NotAvailable:
            raise
        except SimulatorError as error:
            raise self._told(error, log) from error
        return usage, Output.read(out, scratch / "report.json", log)

    def _told(self, error: SimulatorError, log: Path) -> SimulatorError:
        """The same with the exception behind it; not available, where the clone and the environment do not fit."""
        found = cause(log)
        if found is None:
            return error
        if misfit(found):
            return NotAvailable(
                f"{SYSTEM}: the clone's simulator does not fit the SGLang and AIConfigurator of .envs/{self.environment} ({found}); check "
                f"out the clone's commit of that SGLang's version, or set simulators.{SYSTEM}.environment; log {log}"
            )
        return SimulatorError(f"{SYSTEM}: it ended early: {found}; log {log}")

    def _calibration(self, steps: StepTable, output: Output) -> dict[str, Any]:
        return {
            "profile": steps.profile_id,
            "residuals": steps.residuals(),
            "measured": {axis: list(ends) for axis, ends in steps.times.measured.items()},
            "steps_outside": steps.outside(output.batches),
        }
