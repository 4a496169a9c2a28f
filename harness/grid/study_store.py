"""A study's store. Runs are run folders that carry the study's label; profiles, capacities and operations are archives beside the logs."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cell import store
from harness.grid.plan import Task
from harness.grid.task_store import TaskArchives
from results.cells import cell_of
from results.operations import FOLDER, Operations
from results.profile import Profile
from results.record import Run
from results.storage.place import Place
from results.storage.store import read_meta, run_folders

POINT = re.compile(r".+-([0-9a-f]{12})")  # of a run's id


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A measured run of the study."""

    run_id: str
    invalid_reason: str | None  # None: it is valid
    cell: str  # the hash that it shares with its repeats
    repeat: int


@dataclass(frozen=True, kw_only=True)
class StudyStore:
    """A TaskStore. A run's id ends in its task's key, so that it is found by name; the label in its configuration decides."""

    study: str  # its name
    folder: Path  # of the archives and logs
    runs: Place  # the folder of run folders
    again: bool = False  # an INVALID run that is there already counts as none
    _kept: dict[str, Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in run_folders(self.runs):  # of two runs of a task the later one counts: ids begin with the time
            if (named := POINT.fullmatch(folder.name)) is None:
                continue
            meta = read_meta(folder)
            label = meta["config"].get("study") or {}
            if self.again and not meta["valid"]:
                continue
            if meta["kind"] == "measured" and (label.get("name"), label.get("point")) == (self.study, named[1]):
                self._kept[named[1]] = Kept(
                    run_id=folder.name, invalid_reason=meta["invalid_reason"], cell=label["cell"], repeat=meta["repeat"]
                )

    def runs_of(self, tasks: Iterable[Task]) -> Mapping[str, Kept]:
        """Task key to run, of the tasks that have one, valid or not."""
        return {task.key: self._kept[task.key] for task in tasks if task.key in self._kept}

    def has(self, task: Task) -> bool:
        """See TaskStore."""
        if task.kind in ("profile", "capacity", "operations"):
            return self._archives.has(task)
        return task.key in self._kept

    def keep_profile(self, task: Task, profile: Profile) -> None:
        """See TaskStore."""
        self._archives.keep_profile(task, profile)

    def keep_capacity(self, task: Task, capacity: Mapping[str, Any]) -> None:
        """See TaskStore."""
        self._archives.keep_capacity(task, capacity)

    def keep_run(self, task: Task, run: Run, profile: Profile | None, log: Path | None) -> None:
        """See TaskStore. The run gets the study's label; a recorded one's copy says what it is a copy of."""
        label: dict[str, Any] = {"name": self.study, "cell": task.cell or _cell_of(run), "point": task.key}
        if task.kind == "recorded":
            label["copy_of"] = run.run_id
        labelled = dataclasses.replace(run, run_id=f"{run.run_id}-{task.key}", config={**run.config, "study": label})
        store(self.runs, labelled, profile, log)
        self._kept[task.key] = Kept(run_id=labelled.run_id, invalid_reason=run.invalid_reason, cell=label["cell"], repeat=run.repeat)

    def keep_operations(self, task: Task, operations: Operations) -> None:
        """See TaskStore. They go beside the runs too, where simulators look for them (in folders alone)."""
        if isinstance(self.runs, Path):
            operations.write(self.runs / FOLDER / operations.operations_id)
        self._archives.keep_operations(task, operations)

    def profile(self, task: Task) -> Profile:
        """See TaskStore."""
        return self._archives.profile(task)

    def capacity(self, task: Task) -> dict[str, Any]:
        """See TaskStore."""
        return self._archives.capacity(task)

    @property
    def _archives(self) -> TaskArchives:
        return TaskArchives(folder=self.folder)


def _cell_of(run: Run) -> str:
    told = {name: getattr(run, name) for name in ("system", "version", "model", "hardware", "workload", "config")}
    return cell_of({**told, "limits": dataclasses.asdict(run.limits), "slo": dataclasses.asdict(run.slo)})
