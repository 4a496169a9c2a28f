"""Where the results of tasks are kept, and found again by the next call."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.cell import store
from harness.console import say
from harness.grid.plan import Task
from results.operations import FOLDER, Operations
from results.profile import Profile
from results.record import Run
from results.storage.archive import extract, pack

MIB = 1 << 20


class TaskStore(Protocol):
    """A place for results. A result is there whole, or not at all."""

    @property
    def folder(self) -> Path:
        """Where the lock and the logs of failed tasks are."""
        ...

    def has(self, task: Task) -> bool:
        """Whether the task's result is there."""
        ...

    def keep_profile(self, task: Task, profile: Profile) -> None:
        """Keep an engine's step times."""
        ...

    def keep_capacity(self, task: Task, capacity: Mapping[str, Any]) -> None:
        """Keep a capacity."""
        ...

    def keep_run(self, task: Task, run: Run, profile: Profile | None, log: Path | None) -> None:
        """Keep a run with its engine's profile and its server's log."""
        ...

    def keep_operations(self, task: Task, operations: Operations) -> None:
        """Keep times of single operations."""
        ...

    def profile(self, task: Task) -> Profile:
        """What keep_profile kept. Raises StoreError when it is damaged."""
        ...

    def capacity(self, task: Task) -> dict[str, Any]:
        """What keep_capacity kept. Raises StoreError when it is damaged."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskArchives:
    """A TaskStore with one compressed file per task, for machines that give back a few files only. An empty file counts as a result."""

    folder: Path  # of the files
    most: float | None = None  # MiB of one file above which a line warns that it may not travel; None: none is too large

    def has(self, task: Task) -> bool:
        """See TaskStore."""
        return (self.folder / task.archive).is_file()

    def keep_profile(self, task: Task, profile: Profile) -> None:
        """See TaskStore."""
        with self._packed(task) as content:
            profile.write(content / "profile")

    def keep_capacity(self, task: Task, capacity: Mapping[str, Any]) -> None:
        """See TaskStore."""
        with self._packed(task) as content:
            (content / "capacity.json").write_text(json.dumps(capacity, indent=1) + "\n")

    def keep_run(self, task: Task, run: Run, profile: Profile | None, log: Path | None) -> None:
        """See TaskStore."""
        with self._packed(task) as content:
            store(content, run, profile, log)

    def keep_operations(self, task: Task, operations: Operations) -> None:
        """See TaskStore."""
        with self._packed(task) as content:
            operations.write(content / FOLDER / operations.operations_id)

    def profile(self, task: Task) -> Profile:
        """See TaskStore."""
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            return Profile.read(extract(self.folder / task.archive, Path(scratch)) / "profile")

    def capacity(self, task: Task) -> dict[str, Any]:
        """See TaskStore."""
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            found: dict[str, Any] = json.loads((extract(self.folder / task.archive, Path(scratch)) / "capacity.json").read_text())
        return found

    @contextmanager
    def _packed(self, task: Task) -> Iterator[Path]:
        """A folder whose content becomes the task's file when the block ends well."""
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            yield content
            archive = pack(content, self.folder / task.archive)
        size = archive.stat().st_size / MIB
        if self.most is not None and size > self.most:
            say(f"  {archive.name} has {size:.0f} MiB, more than {self.most:g}: split it where files must be small", style="yellow")
