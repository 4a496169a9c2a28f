"""`engine=recorded`: a stored run played back, so that everything after the measurement works without an engine or a GPU."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from harness.system import EngineError
from results.profile import Profile
from results.record import Run
from results.store import read_run, run_folders


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A measured run found under `roots` by its id, or a run folder's path.

    run: the id or the path; None takes the newest measured run. roots: folders of run folders, searched in order.
    """

    roots: tuple[str, ...]
    run: str | None = None
    environment: None = None

    def load(self) -> tuple[Run, Profile | None]:
        """Return the run and the profile of its engine (None when none is stored). Raises EngineError when there is no such run."""
        folder = self._folder()
        run = read_run(folder)
        if run.kind != "measured":
            raise EngineError(f"run {run.run_id} is a simulated one; engine=recorded needs a measured run (python -m results list)")
        return run, Profile.read(folder) if (folder / "profile.json").is_file() else None

    def log(self) -> Path | None:
        """The log of the server that it was measured on, where one is stored."""
        path = self._folder() / "server.log"
        return path if path.is_file() else None

    def _folder(self) -> Path:
        if self.run is not None and (Path(self.run) / "run.json").is_file():
            return Path(self.run)
        stored = {folder.name: folder for root in reversed(self.roots) for folder in run_folders(Path(root))}
        if self.run in stored:
            return stored[self.run]
        if self.run is not None:
            near = get_close_matches(self.run, stored, n=3, cutoff=0.4)
            hint = f"did you mean {', '.join(near)}?" if near else "python -m results list shows what is there"
            raise EngineError(f"engine=recorded: no run named {self.run} in {', '.join(self.roots)}; {hint}")
        measured = [run for run in map(read_run, stored.values()) if run.kind == "measured"]
        if not measured:
            raise EngineError(f"engine=recorded: no measured run in {', '.join(self.roots)}; measure one with make bench")
        newest = max(measured, key=lambda run: (run.started_at, run.run_id))
        return stored[newest.run_id]
