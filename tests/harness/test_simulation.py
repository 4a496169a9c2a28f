"""What stands in the place of a simulated run: the newest attempt's, or nothing where that gave none."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.settings import Paths
from harness.simulation import Simulation, outcome_path
from results.profile import Profile
from results.record import Run, Track, Unavailable
from results.storage.durable import write_text
from results.storage.store import run_folders, write_run
from simulators.calibration.sources import Measured
from simulators.errors import SimulatorError
from tests.runs import make_run, make_simulated


@dataclass(frozen=True)
class Fickle:
    """A simulator that does, or fails as a foreign one may."""

    error: RuntimeError | None = None
    system = "fickle"
    environment = None

    def tracks(self) -> tuple[Track, ...]:
        return ("matched",)

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        if self.error is not None:
            raise self.error
        return make_simulated(measured, system=self.system, track=track)


def simulation(folder: Path, simulator: Fickle) -> Simulation:
    names = ("measured", "database", "studies", "models", "logs")
    paths = Paths(runs=str(folder / "runs"), **{name: str(folder / name) for name in names})
    return Simulation(simulators={"fickle": simulator}, tracks=["matched"], calibration=Measured(), paths=paths)


@pytest.mark.parametrize("error", [Unavailable("no copy of it here"), SimulatorError("exit code 3")])
def test_an_older_run_is_not_left_in_the_place_of_one_that_failed(tmp_path: Path, error: RuntimeError) -> None:
    measured = make_run()
    write_run(tmp_path / "runs", measured)
    done = simulation(tmp_path, Fickle()).run(measured, None)
    assert [folder.name for folder in run_folders(tmp_path / "runs")] == [measured.run_id, *done.runs.values()]
    failed = simulation(tmp_path, Fickle(error)).run(measured, None)
    assert {**failed.unavailable, **failed.failures} == {"fickle:matched": str(error)}
    assert [folder.name for folder in run_folders(tmp_path / "runs")] == [measured.run_id]


def test_what_a_job_told_of_a_run_holds_no_more_once_it_is_simulated_again(tmp_path: Path) -> None:
    measured = make_run()
    mine, others = (outcome_path(tmp_path / "runs", measured.run_id, [name]) for name in ("fickle", "native"))
    for path in (mine, others):
        write_text(path, "{}")
    simulation(tmp_path, Fickle()).run(measured, None)
    assert not mine.is_file()
    assert others.is_file()
