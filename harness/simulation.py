"""A measured run's requests on every chosen simulator, in every chosen track that the simulator has.

A bench and the jobs of a study both end here. Read `Simulation.run` top to bottom.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import environment
from harness.console import say, stage
from harness.protocols import CalibrationLike, SimulatorLike
from harness.settings import Paths
from results.profile import Profile
from results.project.progress import Progress, each
from results.record import Run, Track, Unavailable, simulated_id
from results.storage.place import Place, place
from results.storage.store import remove_simulated, write_run

OUTCOMES = ".outcomes"  # hidden, so no run folder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of each simulation. Keys are 'system:track'."""

    runs: dict[str, str] = field(default_factory=dict)  # the id of the run that was stored
    unavailable: dict[str, str] = field(default_factory=dict)  # why it cannot be had here or for this run
    failures: dict[str, str] = field(default_factory=dict)  # what went wrong


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """What is simulated, and the profiles that simulators may take."""

    run: Run  # the measured run
    profile: Profile | None  # of its engine, where there is one
    calibrated: Profile | None  # of the calibrated track
    lacking: RuntimeError | None  # why there is no `calibrated`, where it was asked for and could not be had


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The simulators and how they are calibrated. The fields are those of conf/bench.yaml."""

    simulators: Mapping[str, SimulatorLike]
    tracks: Sequence[Track]
    calibration: CalibrationLike
    paths: Paths

    def environments(self) -> list[str]:
        """The environments that it needs."""
        return environment.named(self.calibration.environment, *(s.environment for s in self.simulators.values()))

    def run(self, measured: Run, profile: Profile | None, *, progress: Progress | None = None) -> Outcome:
        """Simulate and store. profile: of the measured run's engine, where there is one. progress: told of each simulation.

        A new run replaces the older one of its id. Where a simulation gives no run, the older one is removed as well: its settings may
        have been others. So are the outcomes that earlier jobs of these simulators left (`outcome_path`).
        """
        outcome, runs = Outcome(), place(self.paths.runs)
        for name in self.simulators:
            outcome_path(runs, measured.run_id, [name]).unlink(missing_ok=True)
        measurement = self._measurement(measured, profile)
        for simulator in self.simulators.values():
            if not self._tracks_of(simulator):
                reason = f"as configured it has the tracks {', '.join(simulator.tracks())} only"
                outcome.unavailable.update((f"{simulator.system}:{track}", reason) for track in self.tracks)
        work = [(simulator, track) for simulator in self.simulators.values() for track in self._tracks_of(simulator)]
        for simulator, track in each(work, progress):
            self._simulate(simulator, track, measurement, outcome)
        return outcome

    def _tracks_of(self, simulator: SimulatorLike) -> list[Track]:
        """Of the tracks that are asked for, those that the simulator has."""
        return [track for track in self.tracks if track in simulator.tracks()]

    def _measurement(self, measured: Run, profile: Profile | None) -> _Measurement:
        """The calibrated track's profile is looked for once, and only where a simulator takes it."""
        calibrated, lacking = None, None
        if any("calibrated" in self._tracks_of(simulator) for simulator in self.simulators.values()):
            try:
                with stage("calibration", self.calibration.source):
                    calibrated = self.calibration.profile(measured, profile)
            except RuntimeError as error:
                lacking = error
        return _Measurement(run=measured, profile=profile, calibrated=calibrated, lacking=lacking)

    def _simulate(self, simulator: SimulatorLike, track: Track, measurement: _Measurement, outcome: Outcome) -> None:
        """One simulation: its run is stored, or the older run removed; `outcome` then says what became of it."""
        name, run_id = f"{simulator.system}:{track}", simulated_id(measurement.run.run_id, simulator.system, track)
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            log = Path(scratch) / "log"
            try:
                run = self._simulated(simulator, track, measurement, Path(scratch))
            except Unavailable as error:
                outcome.unavailable[name] = str(error)
            except RuntimeError as error:
                outcome.failures[name] = self._keep_log(error, log, run_id)
            else:
                outcome.runs[name] = self._store(run, log)
        if name not in outcome.runs:
            remove_simulated(place(self.paths.runs), run_id)

    def _simulated(self, simulator: SimulatorLike, track: Track, measurement: _Measurement, scratch: Path) -> Run:
        """The run of one simulation. Raises the simulator's RuntimeError, or the calibration's."""
        with stage("simulate", f"{simulator.system}, {track}"):
            if track != "calibrated":
                return simulator.simulate(measurement.run, track=track, profile=measurement.profile, scratch=scratch)
            if measurement.lacking is not None:
                raise measurement.lacking
            run = simulator.simulate(measurement.run, track=track, profile=measurement.calibrated, scratch=scratch)
            return _calibrated_by(run, self.calibration.source, measurement.calibrated)

    def _store(self, run: Run, log: Path) -> str:
        """Store the run with its log, where there is one; return its id."""
        if run.track == "calibrated" and (line := held_out_line(run)):
            say(f"  {line}", style="dim")
        write_run(place(self.paths.runs), run, {"simulator.log": log} if log.is_file() else {}, replace=True)
        return run.run_id

    def _keep_log(self, error: RuntimeError, log: Path, name: str) -> str:
        """Keep the log of what failed; return the error's words, with the path that the log now has."""
        if not log.is_file():
            return str(error)
        kept = Path(self.paths.logs) / f"{name}.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        return str(error).replace(str(log), str(kept))


def outcome_path(root: Place, run_id: str, simulators: Iterable[str]) -> Place:
    """The file with the outcome of a job, beside the runs. simulators: their names in conf/simulator."""
    return root / OUTCOMES / f"{run_id}--{'+'.join(sorted(simulators))}.json"


def _calibrated_by(run: Run, source: str, profile: Profile | None) -> Run:
    """The run; its configuration then says where its step times are from."""
    if profile is None:
        return run
    told = {"source": source, "profile": profile.profile_id, "is": profile.source, **profile.provenance}
    return dataclasses.replace(run, config={**run.config, "simulator": {**run.config["simulator"], "step_times_from": told}})


def held_out_line(run: Run) -> str | None:
    """A line for people: how well a calibrated simulator predicts the profile's steps that its fit did not see.

    It has the median absolute relative error by kind of step, and what the simulator cannot express. None where there are no such steps.
    """
    told = run.config["simulator"]
    calibration, own = told.get("calibration") or {}, told.get("step_time") or {}
    found = {kind: r["median"] for kind, r in ((calibration.get("residuals") or {}).get("held_out") or {}).items()}
    found |= ((own.get("residuals") or {}).get("held_out") or {}).get("median_abs_error_by_kind") or {}
    if not found:
        return None
    errors = ", ".join(f"{kind.replace('_', ' ')} {error:.1%}" for kind, error in sorted(found.items()))
    lacks = f"; it cannot express {calibration['cannot_express']}" if calibration.get("cannot_express") else ""
    return f"steps held out of the fit, median error: {errors}{lacks}"
