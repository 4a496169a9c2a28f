"""How a study stands: a line per cell, what failed and what is INVALID said as such, and the exit code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from harness.console import console, say
from harness.engine import EngineError
from harness.grid.plan import Task
from harness.grid.study_store import Kept
from harness.simulation import Outcome
from results.project.missing import MissingSimulation, counted

Outcomes = Mapping[str, Mapping[str, Outcome]]  # measured run to simulator to what became of it


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """What of a study is measured, what failed and what is left."""

    study: str  # its name
    tasks: Sequence[Task]  # those wanted
    measured: Mapping[str, Kept]  # task key to run, of those that have one
    failed: Mapping[str, str]  # task key to reason, of this call

    @property
    def valid_runs(self) -> list[str]:
        """Ids of the valid measured runs."""
        return [kept.run_id for point in self._points() if (kept := self.measured.get(point.key)) and kept.invalid_reason is None]

    @property
    def first_repeats(self) -> list[str]:
        """Of the valid runs, the first of each cell."""
        valid = [kept for point in self._points() if (kept := self.measured.get(point.key)) and kept.invalid_reason is None]
        first: dict[str, str] = {}
        for kept in sorted(valid, key=lambda kept: (kept.repeat, kept.run_id)):
            first.setdefault(kept.cell, kept.run_id)
        return [run_id for run_id in self.valid_runs if run_id in set(first.values())]

    def refuse_nothing_measured(self, where: str) -> None:
        """Raises EngineError when no cell has a measured run, valid or not, and none failed: there is nothing to show."""
        if not self.measured and not self.failed:
            raise EngineError(f"study {self.study}: no cell has a measured run in {where}; measure first (do=[measure,simulate])")

    def show(self, outcomes: Outcomes) -> int:
        """Print the table and everything that went wrong; return the exit code."""
        table = Table(title=f"study {self.study}", title_justify="left", header_style="bold")
        for name in ("cell", "hash"):
            table.add_column(name, no_wrap=True)
        for name in ("valid", "INVALID", "failed", "left", "simulated"):
            table.add_column(name, justify="right", min_width=len(name))
        for (name, cell), points in self._cells().items():
            valid, invalid, failed, left = self._count(points)
            runs = [self.measured[p.key].run_id for p in points if p.key in self.measured]
            done = sum(len(o.runs) for run in runs for o in outcomes.get(run, {}).values())
            table.add_row(name, cell, *(str(n or "") for n in (valid, invalid, failed, left)), str(done or ""))
        console.print(table)
        wrong = [*self._invalid(), *self._failures(), *_failures_of(outcomes)]
        for line in wrong:
            say(line, style="bold red")
        for one in refusals(outcomes):
            if not one.failed:
                say(f"not available: {one.system}:{one.track}, {one.runs} run{'' if one.runs == 1 else 's'}: {one.reason}", style="yellow")
        _, invalid, failed, left = self._count(self._points())
        if left:
            say(f"{left} points are left to measure; the same command goes on with them")
        return 1 if failed or len(wrong) > invalid else 2 if invalid else 3 if left else 0

    def _points(self) -> list[Task]:
        return [task for task in self.tasks if task.kind in ("run", "recorded")]

    def _cells(self) -> dict[tuple[str, str], list[Task]]:
        cells: dict[tuple[str, str], list[Task]] = {}
        for point in self._points():
            name = point.name if point.kind == "recorded" else point.name.rpartition("-")[0]
            cells.setdefault((name, point.cell), []).append(point)
        return cells

    def _count(self, points: Sequence[Task]) -> tuple[int, int, int, int]:
        """(valid, INVALID, failed, left)."""
        kept = [self.measured[p.key] for p in points if p.key in self.measured]
        invalid = sum(k.invalid_reason is not None for k in kept)
        failed = sum(self._reason(p) is not None for p in points if p.key not in self.measured)
        return len(kept) - invalid, invalid, failed, len(points) - len(kept) - failed

    def _reason(self, point: Task) -> str | None:
        """Why a point was not measured; None: its turn has not come."""
        if point.key in self.failed:
            return self.failed[point.key]
        names = {task.key: task.name for task in self.tasks}
        return next((f"it needs {names[key]}, which failed: {self.failed[key]}" for key in point.needs if key in self.failed), None)

    def _invalid(self) -> Iterator[str]:
        for point in self._points():
            if (kept := self.measured.get(point.key)) and kept.invalid_reason is not None:
                yield f"INVALID: {kept.run_id}: {kept.invalid_reason}"

    def _failures(self) -> Iterator[str]:
        for point in self._points():
            if point.key not in self.measured and (reason := self._reason(point)) is not None:
                yield f"FAILED: {point.name}: {reason}"


def _failures_of(outcomes: Outcomes) -> Iterator[str]:
    for run, simulators in outcomes.items():
        for outcome in simulators.values():
            for name, reason in outcome.failures.items():
                yield f"FAILED: {run}, {name}: {reason}"


def refusals(outcomes: Outcomes) -> list[MissingSimulation]:
    """Every reason for which a simulation gave no run."""
    return counted(
        (run, name, reason, failed)
        for run, simulators in outcomes.items()
        for outcome in simulators.values()
        for failed, reasons in ((False, outcome.unavailable), (True, outcome.failures))
        for name, reason in reasons.items()
    )
