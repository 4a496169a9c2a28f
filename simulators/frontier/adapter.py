"""Frontier (NetX-lab/Frontier, MIT), unedited, from a clone that the user names: `-m frontier.main`, the requests as sent replayed.

Tracks. shipped: a profile of the run's own model and GPU that the clone ships, and Frontier's own limits. matched: that profile and the
engine's limits. calibrated: the engine's limits and its step times, in Frontier's format (tables.py). Where the clone has no whole profile
(profiles.py), the first two are not available, and say what is missing.

Read `Frontier.simulate` top to bottom. What goes in: files.py and tables.py; what comes out: records.py; how well it knows the engine's
steps: known_steps.py.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from results.profile import Profile
from results.record import Run, Track
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.checkout import BYTECODE, CACHE
from simulators.foreign.clone import described, named_clone
from simulators.foreign.program import clean_environment, foreign_run, interpreter, run_program
from simulators.foreign.vidur_kin import Forest
from simulators.frontier.files import (
    SYSTEM,
    FrontierLimits,
    FrontierScenario,
    Times,
    refuse_too_long,
    words,
    write_trace,
)
from simulators.frontier.known_steps import KnownSteps
from simulators.frontier.profiles import ANY_NETWORK, Need, shipped_times
from simulators.frontier.records import cached_tokens, output_folder, read_output, records
from simulators.frontier.tables import MODEL, StepGrid, attention_rows, linear_rows, model
from simulators.inputs import Pools, known_limits, kv_shape, labelled, needed_profile, one_engine, sent_trace, transfer_rate
from simulators.simulator import Coverage

ADDRESS = "https://github.com/NetX-lab/Frontier"
MAIN = Path("frontier/main.py")  # of a clone
DEVICE = "a100"  # that it runs whole steps on: any that it knows, as nothing is read from it but its name
SHIPPED_BLOCK_SIZE, SHIPPED_BATCH, SHIPPED_BUDGET = 16, 128, 16384  # its scheduler's own: tokens, sequences, tokens of a step


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The settings of conf/simulator/frontier.yaml, which also gives the reasons for their values; the constructor only checks them."""

    checkout: str | None  # folder of a clone, absolute or from the project's folder; None: it is not available
    topology: Literal["colocated", "pd"]  # pd: prefill and decode on instances of their own
    prefill_instances: int  # of topology pd
    decode_instances: int  # of topology pd
    frontend: Literal["none", "offset"]  # offset: the profile's time per request is added to what comes out
    devices: Mapping[str, Sequence[str]]  # name in conf/hardware to its own names of GPUs whose profiles will do, the best first
    routing: Literal["simulation", "uniform_random"]  # how it spreads tokens over experts
    n_estimators: int  # trees of a random forest
    max_depth: int  # levels of a tree
    min_samples_split: int  # rows of its table that a tree still splits
    k_fold: int  # folds of the forest's cross-validation
    threads: int  # that train the forests
    context_rows: int  # rows of the tables along the context axis, up to the longest request
    limit: float  # s of CPU time for training and simulation
    environment: str = SYSTEM  # its environment under .envs/

    def __post_init__(self) -> None:
        choices = {"topology": ("colocated", "pd"), "frontend": ("none", "offset"), "routing": ("simulation", "uniform_random")}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"simulator {SYSTEM}: {field} must be one of {', '.join(allowed)}, got {getattr(self, field)!r}")
        least = {"n_estimators": 1, "max_depth": 1, "min_samples_split": 2, "k_fold": 2, "threads": 1, "context_rows": 2}
        least |= {"prefill_instances": 1, "decode_instances": 1}
        for field, low in least.items():
            if getattr(self, field) < low:
                raise ValueError(f"simulator {SYSTEM}: {field} must be >= {low}, got {getattr(self, field)}")
        if not self.limit > 0:
            raise ValueError(f"simulator {SYSTEM}: limit must be > 0 s, got {self.limit}")

    @property
    def system(self) -> str:
        """See Simulator."""
        return labelled(SYSTEM, self.topology)

    @property
    def coverage(self) -> Coverage:
        """What this Frontier models, as configured."""
        notes = {
            "preemption": "it loses a request that it preempts after its first token, so such a run fails",
            "CUDA graphs": "none, as most of its profiles have no times of them",
            "context_dependent_decode": "of a batch's mean context",
            "tensor_parallel": "as profiled in the calibrated track, whose steps are whole; in the others by its profile",
            "experts": "by a moe.csv of its own, in the shipped and matched tracks; in a calibrated step whatever was measured",
            "pipeline_parallel, expert_parallel, data_parallel, speculation, sessions": "it has settings for them, which are not used here",
            "frontend_cost": "none" if self.frontend == "none" else "the profile's, added to what comes out",
            "token_times": "the ends of its steps; a request that is preempted within its prompt has none",
        }
        return Coverage(
            chunked_prefill="yes",
            prefix_caching="yes",
            kv_limit="yes",
            max_num_seqs="yes",
            token_budget="yes",
            preemption="no",
            context_dependent_decode="yes",
            tensor_parallel="partly",
            pipeline_parallel="no",
            disaggregation="yes",
            frontend_cost="no" if self.frontend == "none" else "partly",
            token_times="partly",
            gqa="yes",
            experts="partly",
            notes="; ".join(f"{what}: {note}" for what, note in notes.items()),
        )

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator. Which profiles there are is known only of a run's model and GPU."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        checkout = named_clone(
            self.checkout,
            system=SYSTEM,
            variable="PLUMBLINE_FRONTIER",
            address=ADDRESS,
            what="Frontier with its files",
            marker=MAIN,
        )
        known = KnownSteps.of(needed_profile(self.system, measured, profile)) if track == "calibrated" else None
        scenario = self._scenario(measured, track, known, checkout, scratch)
        refuse_too_long(scenario, measured.limits.max_model_len)
        offset = self._offset(profile)
        log, cache, asked = scratch / "log", scratch / "cache", scenario.trace.requests
        try:
            self._write(scenario, known, checkout, scratch)
        except OSError as error:
            raise SimulatorError(f"{SYSTEM}: its input files could not be written into {scratch}: {error}") from error
        flags = words(scenario, trace=scratch / "trace.csv", out=scratch / "out", cache=cache)
        # -P: nothing of the scratch folder can be imported
        argv = [str(interpreter(self.environment)), "-P", "-m", "frontier.main", *flags]
        env = clean_environment({"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(CACHE / BYTECODE)})  # the clone stays as it is
        usage = run_program(self.system, argv, cwd=scratch, log=log, limit=self.limit, env=env)

        outcomes, steps = read_output(output_folder(scratch / "out", log), asked, log)
        version, apart = described(checkout), scenario.pools is not None
        cached = cached_tokens(steps, asked, apart=apart)
        return foreign_run(
            self,
            measured,
            records(asked, outcomes, steps, apart=apart, offset=offset, log=log),
            usage,
            version=version,
            track=track,
            settings={
                "times_from": f"its own, of {scenario.times.model} on {scenario.times.device}" if known is None else known.profile_id,
                "pools": dataclasses.asdict(scenario.pools) if scenario.pools else None,
                "calibration": known.summary(cache, scenario.grid, steps, asked, cached, log) if known else None,
                "preemptions": sum(outcome.preemptions for outcome in outcomes),
            },
            provenance={"frontier": version, "repository": ADDRESS},
        )

    def _scenario(self, measured: Run, track: Track, known: KnownSteps | None, checkout: Path, scratch: Path) -> FrontierScenario:
        """What is to be simulated, in numbers. Raises SimulatorError when the run sent no request, NotAvailable when something lacks."""
        one_engine(self.system, measured)
        trace = sent_trace(self.system, measured)
        limits = None if track == "shipped" else self._limits(measured)
        grid = StepGrid.over(
            trace,
            budget=limits.tokens if limits else SHIPPED_BUDGET,
            batch=limits.batch if limits else SHIPPED_BATCH,
            rows=self.context_rows,
        )
        if known is not None:
            files = {"linear_op": scratch / "linear_op.csv", "atten": scratch / "attention.csv"}
            times = Times(files=files, model=MODEL, device=DEVICE, network=ANY_NETWORK, tensor_parallel=1, measured=True, experts={})
        else:
            times = self._shipped(measured, checkout, grid, limits.block_size if limits else SHIPPED_BLOCK_SIZE)
        apart = self.topology == "pd"
        return FrontierScenario(
            trace=trace,
            limits=limits,
            times=times,
            grid=grid,
            forest=Forest(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Forest)}),
            pools=self._pools(measured, track) if apart else None,
            kv=kv_shape(self.system, measured.config.get("model") or {}) if apart and track != "shipped" else None,
        )

    def _shipped(self, measured: Run, checkout: Path, grid: StepGrid, block: int) -> Times:
        """Its own profile of the run's model and GPU. Raises NotAvailable when it has none that is whole."""
        if measured.hardware not in self.devices:
            raise NotAvailable(
                f"{SYSTEM}: its clone has no profiles of {measured.hardware}, only of {', '.join(self.devices)} "
                "(simulators.frontier.devices); the calibrated track needs none"
            )
        trace = measured.trace_as_sent()
        need = Need(
            tensor_parallel=measured.limits.tensor_parallel,
            block_size=block,
            step=min(grid.step, sum(r.input_tokens + r.output_tokens for r in trace)),
            batch=grid.batch,
            longest=max(r.input_tokens + r.output_tokens for r in trace),
        )
        sizes = measured.config.get("model") or {}
        return shipped_times(checkout, sizes, self.devices[measured.hardware], need, routing=self.routing)

    def _limits(self, measured: Run) -> FrontierLimits:
        """The engine's own. Raises NotAvailable naming those that the run does not say."""
        kv_tokens, batch, tokens, block = known_limits(
            self.system, measured, ("kv_tokens", "max_num_seqs", "max_num_batched_tokens", "block_size")
        )
        said = measured.limits
        return FrontierLimits(
            num_blocks=kv_tokens // block,
            block_size=block,
            batch=batch,
            tokens=tokens,
            chunked_prefill=said.chunked_prefill is not False,
            prefix_caching=bool(said.prefix_caching),
        )

    def _pools(self, measured: Run, track: Track) -> Pools:
        """The instances of each kind; with its own transfer as shipped, else over the link of the run's hardware."""
        rate = None if track == "shipped" else transfer_rate(self.system, measured)
        return Pools(prefill=self.prefill_instances, decode=self.decode_instances, transfer=rate)

    def _offset(self, profile: Profile | None) -> float:
        if self.frontend == "none":
            return 0.0
        if profile is None or profile.frontend is None:
            raise SimulatorError(f"{SYSTEM}: frontend=offset needs a profile with front-end samples; set simulators.frontier.frontend=none")
        return profile.frontend

    def _write(self, scenario: FrontierScenario, known: KnownSteps | None, checkout: Path, scratch: Path) -> None:
        """Write every input file. Frontier looks for its data in the folder that it runs in."""
        write_trace(scenario, scratch / "trace.csv")
        if known is None:
            (scratch / "data").symlink_to(checkout / "data")
            return
        assert scenario.limits is not None
        models = scratch / "data" / "config" / "models"
        models.mkdir(parents=True)
        (models / f"{MODEL}.json").write_text(json.dumps(model()))
        linear_rows(known.times, scenario.grid).to_csv(scenario.times.files["linear_op"], index=False)
        attention_rows(known.times, scenario.grid, scenario.limits.block_size).to_csv(scenario.times.files["atten"], index=False)
