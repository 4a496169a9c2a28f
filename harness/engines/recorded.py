"""`engine=recorded`: a stored run played back, so that everything after the measurement works without an engine or a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.engine import EngineError
from results.profile import Profile
from results.record import Run
from results.storage.find import find_run, stored_runs
from results.storage.place import Place
from results.storage.run_tables import StoreError
from results.storage.store import near, read_run


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A measured run that is stored already."""

    roots: tuple[str, ...]  # folders of run folders, searched in this order
    run: str | None = None  # its id, or the path of its folder; None: the newest measured run
    environment: None = None  # none: nothing runs

    def load(self) -> tuple[Run, Profile | None]:
        """Return the run and the profile of its engine (None when none is stored). Raises EngineError when there is no such run."""
        with self.stored() as (run, profile, _):
            return run, profile

    @contextmanager
    def stored(self) -> Iterator[tuple[Run, Profile | None, Path | None]]:
        """The run, its engine's profile and its server's log, where they are stored. The log is there until the block ends."""
        with near(self._folder()) as folder:
            run = read_run(folder)
            if run.kind != "measured":
                raise EngineError(f"run {run.run_id} is a simulated one; engine=recorded needs a measured run (./plumbline list)")
            log = folder / "server.log"
            yield run, Profile.read(folder) if (folder / "profile.json").is_file() else None, log if log.is_file() else None

    def _folder(self) -> Place:
        if self.run is not None:
            try:
                return find_run(self.run, self.roots, asker="engine=recorded")
            except StoreError as error:
                raise EngineError(str(error)) from error
        stored = stored_runs(self.roots)
        measured = [run for run in map(read_run, stored.values()) if run.kind == "measured"]
        if not measured:
            raise EngineError(f"engine=recorded: no measured run in {', '.join(self.roots)}; measure one with make bench")
        newest = max(measured, key=lambda run: (run.started_at, run.run_id))
        return stored[newest.run_id]
