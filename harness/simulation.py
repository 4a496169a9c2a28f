"""A measured run's requests on every chosen simulator, in every chosen track that it has: what a bench and a study's jobs share."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.console import say, stage
from harness.protocols import CalibrationLike, SimulatorLike
from harness.settings import Paths
from results.profile import Profile
from results.record import Run, Track, Unavailable, simulated_id
from results.storage.place import Place, place
from results.storage.store import remove_simulated, write_run

OUTCOMES = ".outcomes"  # hidden, so no run folder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of each simulation. Keys are 'system:track'.

    runs: the id of the run that was stored. unavailable: why it cannot be had here or for this run. failures: what went wrong.
    """

    runs: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The simulators and how they are calibrated. The fields are those of conf/bench.yaml."""

    simulators: Mapping[str, SimulatorLike]
    tracks: Sequence[Track]
    calibration: CalibrationLike
    paths: Paths

    def environments(self) -> list[str]:
        """The environments that it needs."""
        names = (self.calibration.environment, *(s.environment for s in self.simulators.values()))
        return [name for name in dict.fromkeys(names) if name is not None]

    def run(self, measured: Run, profile: Profile | None) -> Outcome:
        """Simulate and store. profile: of the measured run's engine, where there is one.

        A run that is stored takes the place of an older one of its id, and where there is none to store now the older one goes, too: its
        settings may be others. What was told of the older ones (`outcome_path`) holds no more.
        """
        outcome, runs = Outcome(), place(self.paths.runs)
        for name in self.simulators:
            outcome_path(runs, measured.run_id, [name]).unlink(missing_ok=True)
        calibrated, lacking = self._calibrated(measured, profile)
        for simulator in self.simulators.values():
            asked = [track for track in self.tracks if track in simulator.tracks()]
            if not asked:
                reason = f"as configured it has the tracks {', '.join(simulator.tracks())} only"
                outcome.unavailable.update((f"{simulator.system}:{track}", reason) for track in self.tracks)
            for track in asked:
                name, run_id = f"{simulator.system}:{track}", simulated_id(measured.run_id, simulator.system, track)
                with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
                    try:
                        with stage("simulate", f"{simulator.system}, {track}"):
                            if track != "calibrated":
                                run = simulator.simulate(measured, track=track, profile=profile, scratch=Path(scratch))
                            elif lacking is not None:
                                raise lacking
                            else:
                                run = simulator.simulate(measured, track=track, profile=calibrated, scratch=Path(scratch))
                                run = _calibrated_by(run, self.calibration.source, calibrated)
                    except Unavailable as error:
                        outcome.unavailable[name] = str(error)
                        remove_simulated(runs, run_id)
                        continue
                    except RuntimeError as error:
                        outcome.failures[name] = self._keep_log(error, Path(scratch) / "log", run_id)
                        remove_simulated(runs, run_id)
                        continue
                    if track == "calibrated" and (line := held_out_line(run)):
                        say(f"  {line}", style="dim")
                    log_file = Path(scratch) / "log"
                    write_run(runs, run, {"simulator.log": log_file} if log_file.is_file() else {}, replace=True)
                    outcome.runs[name] = run.run_id
        return outcome

    def _calibrated(self, measured: Run, profile: Profile | None) -> tuple[Profile | None, RuntimeError | None]:
        """The profile that the calibrated track takes, or why there is none. Nothing is asked for when nothing is calibrated."""
        if not any(track == "calibrated" and track in self.tracks for s in self.simulators.values() for track in s.tracks()):
            return None, None
        try:
            with stage("calibration", self.calibration.source):
                return self.calibration.profile(measured, profile), None
        except RuntimeError as error:
            return None, error

    def _keep_log(self, error: RuntimeError, log: Path, name: str) -> str:
        if not log.is_file():
            return str(error)
        kept = Path(self.paths.logs) / f"{name}.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        return str(error).replace(str(log), str(kept))


def outcome_path(root: Place, run_id: str, simulators: Iterable[str]) -> Place:
    """Where the outcome of a job is kept, beside the runs. simulators: their names in conf/simulator."""
    return root / OUTCOMES / f"{run_id}--{'+'.join(sorted(simulators))}.json"


def _calibrated_by(run: Run, source: str, profile: Profile | None) -> Run:
    """The run, its configuration saying where its step times are from."""
    if profile is None:
        return run
    told = {"source": source, "profile": profile.profile_id, "is": profile.source, **profile.provenance}
    return dataclasses.replace(run, config={**run.config, "simulator": {**run.config["simulator"], "step_times_from": told}})


def held_out_line(run: Run) -> str | None:
    """How well a calibrated simulator knows the profile's steps that were kept out of its fit, and what it cannot express; for people.

    Median sizes of the relative error, by kind of step. None where there are no such steps.
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
