"""AISimulate (NVIDIA, Apache-2.0), unedited, from PyPI: `aisimulate predict` replays vLLM's scheduler over times of single steps.

What its time model can express: a step as prefill of k prompts (new tokens, cached tokens) plus decode of b sequences at their mean
context, from tables that it interpolates. tables.py has the formula, and what the formula cannot express. The shipped and matched tracks
use the operation times that it ships (AIConfigurator's measurements) and the engine's own config.json. The calibrated track uses a database
of our own, named by an environment variable of its runtime. Its replay has no cost outside the steps. Every engine, SGLang too, is
replayed by its vLLM scheduler.

Tracks. shipped: its own defaults (8,192 tokens and 256 sequences a step, blocks of 64 tokens, prefix caching on, KV cache by its memory
model at 0.9 of the device). matched: the engine's limits; where the engine did not say its KV capacity, that of the memory model.
calibrated: matched, with the step times of the profile.

Read `AISimulate.simulate` top to bottom. Which wheel: releases.py; what goes in and out: files.py; the calibrated database: tables.py.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from results.profile import Profile
from results.record import Run, Track
from simulators.aisimulate.coverage import covered
from simulators.aisimulate.files import (
    SYSTEM,
    AISimulateScenario,
    is_mixture,
    parallelism,
    preemptions,
    read_rows,
    run_prediction,
    to_records,
    write_trace,
)
from simulators.aisimulate.refusals import LacksModel, LacksTimes, refused
from simulators.aisimulate.releases import NEAREST, Chosen, Wheel, best_with_profiles, candidates, having
from simulators.aisimulate.sending import sending
from simulators.aisimulate.tables import HARDWARE, VERSION, AISimulateTables
from simulators.errors import SimulatorError
from simulators.foreign.program import Usage, clean_environment, foreign_run
from simulators.foreign.step_points import fit, residuals
from simulators.inputs import Pools, known_limits, kv_shape, labelled, needed_profile, one_engine, sent_trace, transfer_rate
from simulators.simulator import Coverage
from workloads.trace import Trace

BLOCK_SIZE = 16  # tokens; vLLM's default, where a run does not say
LEAST_BLOCK_SIZE = 2  # tokens; it refuses 1 (SGLang's page size), so 2 stand for it: a request then holds at most one token more
MODEL = "model"  # folder of its config.json
BY_STEPS = {"by": "how it composes steps, as their times are the profile's"}
EXTRAS = ("speculation", "tokenization", "host_offload")  # settings of its own that not all wheels have


@dataclass(frozen=True, kw_only=True)
class AISimulate:
    """The simulator; conf/simulator/aisimulate.yaml says more of each setting, and the constructor only checks them."""

    prefix_caching: bool | None  # None: as the engine's; in the shipped track its own default
    frontend: Literal["none", "offset"]  # whether the profile's cost per request outside the steps is added to what comes out
    topology: Literal["colocated", "pd"]  # pd: prefill and decode on instances of their own
    prefill_instances: int  # of topology pd
    decode_instances: int  # of topology pd
    release: str  # the wheel: nearest, or a name of `releases`
    releases: Mapping[str, Wheel]  # by name
    speculation: Mapping[str, Any] | None  # engine.speculation of its configuration, as it is; None: none
    tokenization: Mapping[str, Any] | None  # engine.tokenization, likewise
    host_offload: Mapping[str, Any] | None  # kv_cache.host_offload of each worker, likewise
    limit: float  # s of CPU time for a simulation

    def __post_init__(self) -> None:
        if self.frontend not in ("none", "offset"):
            raise ValueError(f"simulator aisimulate: frontend must be one of none, offset, got {self.frontend!r}")
        if self.topology not in ("colocated", "pd"):
            raise ValueError(f"simulator aisimulate: topology must be colocated or pd, got {self.topology!r}")
        if self.prefill_instances < 1 or self.decode_instances < 1:
            raise ValueError(
                f"simulator aisimulate: prefill_instances and decode_instances must be >= 1, got {self.prefill_instances} and "
                f"{self.decode_instances}"
            )
        if self.release not in (NEAREST, *self.releases):
            raise ValueError(f"simulator aisimulate: release must be one of {', '.join((NEAREST, *self.releases))}, got {self.release!r}")
        having(self._allowed(), self._needs())
        if not self.limit > 0:
            raise ValueError(f"simulator aisimulate: limit must be > 0 s, got {self.limit}")

    @property
    def system(self) -> str:
        """See Simulator."""
        return labelled(SYSTEM if self.release == NEAREST else f"{SYSTEM}_{self.release}", self.topology)

    @property
    def environment(self) -> tuple[str, ...]:
        """See Simulator: of every wheel that a run may need."""
        return tuple(release.environment for release in having(self._allowed(), self._needs()))

    def _allowed(self) -> list[Wheel]:
        return [*self.releases.values()] if self.release == NEAREST else [self.releases[self.release]]

    def _needs(self) -> list[str]:
        return [name for name in EXTRAS if getattr(self, name) is not None]

    @property
    def coverage(self) -> Coverage:
        """What it models, as configured."""
        return covered(offset=self.frontend == "offset", tokenising=self.tokenization is not None, drafting=self.speculation is not None)

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched", "calibrated")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        trace = sent_trace(self.system, measured)
        offset = self._offset(measured, profile)
        able = having(self._allowed(), self._needs())
        choices, tables = candidates(able, measured), None
        if track == "calibrated":
            profile = needed_profile(self.system, measured, profile)
            choices = candidates([best_with_profiles(able)], measured)[:1]
            tables = self._tables(measured, trace, profile, choices[0].release)
        choice, scenario, usage = self._replayed(measured, trace, track, choices, tables, scratch)

        log = scratch / "log"
        rows = read_rows(scratch / "out" / "requests.jsonl", trace, scenario.sending, log)
        return foreign_run(
            self,
            measured,
            to_records(trace, scenario.sending, rows, offset, log),
            usage,
            looped=scenario.sending.looped,
            version=choice.release.version,
            track=track,
            settings={
                "times_from": profile.profile_id if tables and profile else choice.times_from(measured.hardware),
                "chosen": {"environment": choice.release.environment, **(BY_STEPS if tables else choice.told())},
                "passed_over": [f"{c.version} of {c.release.version}" for c in choices[: choices.index(choice)]],  # they lack the model's
                "releases": {name: release.version for name, release in self.releases.items()},
                "engine": scenario.settings(Path("trace.jsonl"))["engine"],
                "kv_capacity": "its own estimate" if scenario.blocks is None else "the engine's",
                "preemptions": preemptions(list(rows.values())),
                "calibration": _calibration(tables, profile) if tables and profile else None,
            },
            provenance={"aisimulate": choice.release.version},
        )

    def _replayed(
        self, measured: Run, trace: Trace, track: Track, choices: Sequence[Chosen], tables: AISimulateTables | None, scratch: Path
    ) -> tuple[Chosen, AISimulateScenario, Usage]:
        """With the nearest operation times that have the model's sizes. Raises NotAvailable where none has."""
        self._write_model(measured, trace, tables, scratch)
        refusals: dict[Chosen, LacksTimes] = {}
        for choice in choices:
            if any(isinstance(error, LacksModel) and other.release is choice.release for other, error in refusals.items()):
                continue
            scenario = self._scenario(measured, trace, track, choice, scratch)
            try:
                return choice, scenario, self._run(scenario, choice.release, scratch, calibrated=tables is not None)
            except LacksTimes as error:
                refusals[choice] = error
                shutil.rmtree(scratch / "out", ignore_errors=True)
        raise next(iter(refusals.values()))

    def _write_model(self, measured: Run, trace: Trace, tables: AISimulateTables | None, scratch: Path) -> None:
        """Its config.json, or the stand-in of the profile's tables with these."""
        if tables:
            tables.write(scratch / "systems", scratch / MODEL, max_model_len=measured.limits.max_model_len or longest(trace))
        else:
            (scratch / MODEL).mkdir()
            (scratch / MODEL / "config.json").write_text(json.dumps(measured.config.get("model") or {}))

    def _scenario(self, measured: Run, trace: Trace, track: Track, choice: Chosen, scratch: Path) -> AISimulateScenario:
        """What is to be simulated. Raises SimulatorError when the run lacks a limit that is needed."""
        said = measured.limits
        hardware, version = (HARDWARE, VERSION) if track == "calibrated" else (choice.system, choice.version)
        own = self.prefix_caching
        common: dict[str, Any] = {
            "trace": trace,
            "sending": sending(measured, trace),
            "model": scratch / MODEL,
            "hardware": hardware,
            "version": version,
            "parallelism": self._parallelism(measured, track),
            **{name: getattr(self, name) for name in EXTRAS},
            **self._pools(measured, track),
        }
        if track == "shipped":
            return AISimulateScenario(prefix_caching=True if own is None else own, **common)
        if said.chunked_prefill is False:
            raise SimulatorError(
                f"aisimulate: run {measured.run_id} has chunked prefill off, which it cannot be set to; use the shipped track"
            )
        sequences, budget = known_limits(self.system, measured, ("max_num_seqs", "max_num_batched_tokens"))
        if track == "calibrated":
            known_limits(self.system, measured, ("kv_tokens",))
        block = max(said.block_size or BLOCK_SIZE, LEAST_BLOCK_SIZE)
        return AISimulateScenario(
            prefix_caching=bool(said.prefix_caching) if own is None else own,
            block_size=block,
            blocks=None if said.kv_tokens is None else said.kv_tokens // block,
            max_num_seqs=sequences,
            max_num_batched_tokens=budget,
            max_model_len=said.max_model_len,
            **common,
        )

    def _parallelism(self, measured: Run, track: Track) -> dict[str, int]:
        """Raises NotAvailable for engines that a profile of one engine's steps does not tell."""
        if track != "calibrated":
            return parallelism(measured.limits, mixture=is_mixture(measured.config.get("model") or {}))
        one_engine(self.system, measured)
        return {"replicas": 1, "tensor": 1}

    def _pools(self, measured: Run, track: Track) -> dict[str, Any]:
        if self.topology == "colocated":
            return {}
        rate = None if track == "shipped" else transfer_rate(self.system, measured)  # its own transfer takes no time
        pools = Pools(prefill=self.prefill_instances, decode=self.decode_instances, transfer=rate)
        return {"pools": pools, "kv_bytes": kv_shape(self.system, measured.config.get("model") or {}).bytes_per_token}

    def _tables(self, measured: Run, trace: Trace, profile: Profile, release: Wheel) -> AISimulateTables:
        """Tables that cover every step of the run and every point of the profile."""
        sequences, budget = known_limits(self.system, measured, ("max_num_seqs", "max_num_batched_tokens"))
        points = profile.points()
        contexts = (longest(trace), *(points["prefill_context"] + points["new_tokens"]), *points["context"])
        return AISimulateTables.of(
            fit(self.system, profile),
            tokens=int(max(budget, points["new_tokens"].max())),
            batch=int(max(sequences, points["batch"].max() + 1)),
            context=int(max(contexts)) + 1,
            ending_decodes=release.ending_decodes and self.topology != "pd",
            decode_floor=release.decode_floor,
        )

    def _offset(self, measured: Run, profile: Profile | None) -> float:
        if self.frontend == "none":
            return 0.0
        if profile is None or profile.frontend is None:
            raise SimulatorError(
                f"aisimulate: frontend=offset needs a profile with front-end samples, and run {measured.run_id} has none; "
                f"set simulators.aisimulate.frontend=none"
            )
        return profile.frontend

    def _run(self, scenario: AISimulateScenario, release: Wheel, scratch: Path, *, calibrated: bool) -> Usage:
        """Write its trace and its configuration, and run it. Raises LacksTimes where other operation times of its own may do."""
        trace, log = scratch / "trace.jsonl", scratch / "log"
        write_trace(scenario.trace, scenario.sending, trace)
        env = clean_environment({"AICONFIGURATOR_SYSTEMS_PATH": str(scratch / "systems")} if calibrated else {})
        words, settings = ["--capture-per-request"], scenario.settings(trace)
        try:
            return run_prediction(self.system, release.environment, scratch, settings, limit=self.limit, words=words, env=env)
        except SimulatorError as error:
            refusal = None if calibrated else refused(log)
            if refusal is not None:
                what = f"it has no operation times for this model on {scenario.hardware} with vLLM {scenario.version}"
                raise refusal(f"{self.system}: {what}; {error}") from error
            raise


def longest(trace: Trace) -> int:
    """Tokens of the longest request, its output included."""
    return max(r.input_tokens + r.output_tokens for r in trace)


def _calibration(tables: AISimulateTables, profile: Profile) -> dict[str, Any]:
    """How well the tables give the profile's own points; points that were held out of the fit are counted separately."""
    points = profile.points()
    steps = points[points["kind"] != "frontend"].reset_index(drop=True)
    predicted = tables.step(steps)
    return {
        "profile": profile.profile_id,
        "residuals": residuals(steps, predicted.tolist()),
        "cannot_express": tables.cannot_express,
        "points_under_its_floor": int((steps["time"] < tables.decode_floor).sum()),
    }
