"""A study's shelf: runs as run folders that carry the study's label, an engine's capacities and profile as archives beside its logs."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cell import store
from harness.grid.plan import Step
from harness.grid.task_store import Archives
from results.cells import cell_of
from results.operations import FOLDER, Operations
from results.profile import Profile
from results.record import Run
from results.storage.place import Place
from results.storage.store import read_meta, run_folders

POINT = re.compile(r".+-([0-9a-f]{12})")  # of a run's id


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A measured run of the study. invalid_reason: None when it is valid."""

    run_id: str
    invalid_reason: str | None


@dataclass(frozen=True, kw_only=True)
class RunShelf:
    """study: its name. runs: the folder of run folders. again: an INVALID run that is there already counts as none.

    A run's id ends in its point's hash, so that it is found by name; what its configuration says decides.
    """

    study: str
    folder: Path
    runs: Place
    again: bool = False
    _kept: dict[str, Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in run_folders(self.runs):  # the later of two runs of a point counts, as ids begin with the time
            if (named := POINT.fullmatch(folder.name)) is None:
                continue
            meta = read_meta(folder)
            label = meta["config"].get("study") or {}
            if self.again and not meta["valid"]:
                continue
            if meta["kind"] == "measured" and (label.get("name"), label.get("point")) == (self.study, named[1]):
                self._kept[named[1]] = Kept(run_id=folder.name, invalid_reason=meta["invalid_reason"])

    def runs_of(self, steps: Iterable[Step]) -> Mapping[str, Kept]:
        """Of these steps the ones that have a run, valid or not: step key to run."""
        return {step.key: self._kept[step.key] for step in steps if step.key in self._kept}

    def has(self, step: Step) -> bool:
        """See Shelf."""
        if step.kind in ("profile", "capacity", "operations"):
            return self._archives.has(step)
        return step.key in self._kept

    def keep_profile(self, step: Step, profile: Profile) -> None:
        """See Shelf."""
        self._archives.keep_profile(step, profile)

    def keep_capacity(self, step: Step, capacity: Mapping[str, Any]) -> None:
        """See Shelf."""
        self._archives.keep_capacity(step, capacity)

    def keep_run(self, step: Step, run: Run, profile: Profile | None, log: Path | None) -> None:
        """See Shelf. The run gets the study's label; a recorded one's copy says what it is a copy of."""
        label: dict[str, Any] = {"name": self.study, "cell": step.cell or _cell_of(run), "point": step.key}
        if step.kind == "recorded":
            label["copy_of"] = run.run_id
        labelled = dataclasses.replace(run, run_id=f"{run.run_id}-{step.key}", config={**run.config, "study": label})
        store(self.runs, labelled, profile, log)
        self._kept[step.key] = Kept(run_id=labelled.run_id, invalid_reason=run.invalid_reason)

    def keep_operations(self, step: Step, operations: Operations) -> None:
        """See Shelf. They go beside the runs too, where simulators look for them (in folders alone)."""
        if isinstance(self.runs, Path):
            operations.write(self.runs / FOLDER / operations.operations_id)
        self._archives.keep_operations(step, operations)

    def profile(self, step: Step) -> Profile:
        """See Shelf."""
        return self._archives.profile(step)

    def capacity(self, step: Step) -> dict[str, Any]:
        """See Shelf."""
        return self._archives.capacity(step)

    @property
    def _archives(self) -> Archives:
        return Archives(folder=self.folder)


def _cell_of(run: Run) -> str:
    told = {name: getattr(run, name) for name in ("system", "version", "model", "hardware", "workload", "config")}
    return cell_of({**told, "limits": dataclasses.asdict(run.limits), "slo": dataclasses.asdict(run.slo)})
