"""A simulation's outcome: what is stored, what is removed, and which profile a simulator is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.protocols import CalibrationLike
from harness.settings import Paths
from harness.simulation import Simulation, outcome_path
from results.profile import Profile
from results.record import Run, Track, Unavailable
from results.storage.durable import write_text
from results.storage.store import read_run, run_folders, write_run
from simulators.calibration.sources import Measured
from simulators.errors import NotAvailable, SimulatorError
from tests.runs import make_run, make_simulated
from tests.simulators.profiles import Law, make_profile


@dataclass(frozen=True)
class Fickle:
    """A simulator that does, or fails as a foreign one may. It keeps the profiles that it is given, and writes a log."""

    error: RuntimeError | None = None
    has: tuple[Track, ...] = ("matched",)
    given: dict[Track, Profile | None] = field(default_factory=dict)
    system = "fickle"
    environment = None

    def tracks(self) -> tuple[Track, ...]:
        return self.has

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        self.given[track] = profile
        (scratch / "log").write_text(f"it was {track}")
        if self.error is not None:
            raise type(self.error)(f"{self.error}; log {scratch / 'log'}")
        return make_simulated(measured, system=self.system, track=track)


@dataclass(frozen=True)
class Source:
    """Where a calibrated track's profile is from, or why there is none."""

    answer: Profile | RuntimeError
    asked: list[str] = field(default_factory=list)
    source = "made"
    environment = None

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        self.asked.append(measured.run_id)
        if isinstance(self.answer, RuntimeError):
            raise self.answer
        return self.answer


def simulation(
    folder: Path, simulator: Fickle, *, tracks: Sequence[Track] = ("matched",), calibration: CalibrationLike | None = None
) -> Simulation:
    names = ("measured", "database", "studies", "models", "logs")
    paths = Paths(runs=str(folder / "runs"), **{name: str(folder / name) for name in names})
    return Simulation(simulators={"fickle": simulator}, tracks=tracks, calibration=calibration or Measured(), paths=paths)


@pytest.mark.parametrize("error", [Unavailable("no copy of it here"), SimulatorError("exit code 3")])
def test_an_older_run_is_not_left_in_the_place_of_one_that_failed(tmp_path: Path, error: RuntimeError) -> None:
    measured = make_run()
    write_run(tmp_path / "runs", measured)
    done = simulation(tmp_path, Fickle()).run(measured, None)
    assert [folder.name for folder in run_folders(tmp_path / "runs")] == [measured.run_id, *done.runs.values()]
    failed = simulation(tmp_path, Fickle(error)).run(measured, None)
    told = {**failed.unavailable, **failed.failures}["fickle:matched"]
    assert told.startswith(str(error))
    assert [folder.name for folder in run_folders(tmp_path / "runs")] == [measured.run_id]


def test_an_earlier_outcome_of_the_same_simulator_is_removed_when_it_simulates_again(tmp_path: Path) -> None:
    measured = make_run()
    mine, others = (outcome_path(tmp_path / "runs", measured.run_id, [name]) for name in ("fickle", "native"))
    for path in (mine, others):
        write_text(path, "{}")
    simulation(tmp_path, Fickle()).run(measured, None)
    assert not mine.is_file()
    assert others.is_file()


def test_a_log_stays_with_what_was_stored_and_with_what_failed(tmp_path: Path) -> None:
    measured = make_run()
    done = simulation(tmp_path, Fickle()).run(measured, None)
    run_id = done.runs["fickle:matched"]
    assert (tmp_path / "runs" / run_id / "simulator.log").read_text() == "it was matched"
    failed = simulation(tmp_path, Fickle(SimulatorError("exit code 3"))).run(measured, None)
    kept = tmp_path / "logs" / f"{run_id}.log"
    assert failed.failures == {"fickle:matched": f"exit code 3; log {kept}"}
    assert kept.read_text() == "it was matched"


def test_only_the_calibrated_track_is_given_what_it_is_calibrated_with(tmp_path: Path) -> None:
    own, calibrated = make_profile(Law()), make_profile(Law(), scale=2)
    fickle, source = Fickle(has=("matched", "calibrated")), Source(calibrated)
    done = simulation(tmp_path, fickle, tracks=("shipped", "matched", "calibrated"), calibration=source).run(make_run(), own)
    assert fickle.given == {"matched": own, "calibrated": calibrated}
    assert sorted(done.runs) == ["fickle:calibrated", "fickle:matched"] and not done.unavailable
    config = {track: read_run(tmp_path / "runs" / done.runs[f"fickle:{track}"]).config["simulator"] for track in fickle.given}
    assert config["calibrated"]["step_times_from"] == {"source": "made", "profile": "law", "is": "a law"}
    assert "step_times_from" not in config["matched"]


def test_progress_is_told_of_each_simulation_one_that_fails_too(tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    fickle = Fickle(SimulatorError("exit code 3"), has=("matched", "calibrated"))
    chosen = simulation(tmp_path, fickle, tracks=("shipped", "matched", "calibrated"))
    chosen.run(make_run(), None, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("error", [NotAvailable("no such tables"), RuntimeError("broken tables")])
def test_a_profile_that_cannot_be_had_ends_the_calibrated_track_alone(tmp_path: Path, error: RuntimeError) -> None:
    fickle = Fickle(has=("matched", "calibrated"))
    done = simulation(tmp_path, fickle, tracks=fickle.has, calibration=Source(error)).run(make_run(), None)
    assert list(done.runs) == ["fickle:matched"] and list(fickle.given) == ["matched"]
    assert (done.unavailable if isinstance(error, Unavailable) else done.failures) == {"fickle:calibrated": str(error)}


def test_a_simulator_without_any_track_that_is_asked_for_is_not_available(tmp_path: Path) -> None:
    source = Source(RuntimeError("nobody asks"))
    done = simulation(tmp_path, Fickle(), tracks=("shipped", "calibrated"), calibration=source).run(make_run(), None)
    reason = "as configured it has the tracks matched only"
    assert done.unavailable == {"fickle:shipped": reason, "fickle:calibrated": reason}
    assert (done.runs, done.failures, source.asked) == ({}, {}, [])
