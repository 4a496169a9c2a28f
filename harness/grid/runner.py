"""Tasks measured one after another, as many as the time allows, each result kept as soon as it is there.

A campaign and a study share this. Read `Runner.run` and `Runner._visit` first.
"""

import dataclasses
import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness import cli, environment
from harness.cell import Cell
from harness.console import say, stage
from harness.engine import Endpoint, EngineError, LocalEngine
from harness.engines.catalogued import Catalogued
from harness.engines.recorded import Recorded
from harness.grid.plan import Task
from harness.grid.task_order import choose
from harness.grid.task_store import TaskStore
from harness.microbench.benchmarks import Benchmarks
from results.project import progress

CELL = tuple(Cell.__dataclass_fields__)


@dataclass(kw_only=True)
class Runner:
    """One call of a campaign or a study."""

    tasks: Sequence[Task]  # all, in the order of value
    wanted: frozenset[str]  # keys of those to measure in this call
    store: TaskStore  # where results are kept, and found again
    start: float  # about how long a server takes to start, s
    until: float | None  # s from `began` by when the last task should have ended; None: no end
    further: Callable[[Sequence[Task]], Sequence[Task]] = lambda wanted: ()  # of the wanted tasks, done as far as they can be: more of them
    operations: Benchmarks | None = None  # what tasks of the kind 'operations' time
    began: float = field(default_factory=time.monotonic)  # when the call began, a time.monotonic() value
    failed: dict[str, str] = field(default_factory=dict)  # task key to reason, of this call
    _remaining: progress.Remaining = field(default_factory=progress.Remaining)  # in the seconds that the plan gives each task

    def run(self) -> int:
        """Measure what is left, as much as the time allows; return the exit code: 0, or 1 when a task failed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder):
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            self._say_state()
            self._preflight()
            while (task := self._next(serving=None)) is not None:
                self._visit(task)
            self._say_state()
        names = {task.key: task.name for task in self.tasks}
        for reason in dict.fromkeys(self.failed.values()):
            say(f"FAILED: {', '.join(names[key] for key, why in self.failed.items() if why == reason)}: {reason}", style="bold red")
        return 1 if self.failed else 0

    def extend(self) -> None:
        """Take all further tasks as wanted, without measuring any."""
        while self._extended():
            pass

    def _extended(self) -> bool:
        """Whether there were further tasks, which are now among the wanted ones."""
        more = self.further([task for task in self.tasks if task.key in self.wanted])
        self.tasks, self.wanted = [*self.tasks, *more], self.wanted | {task.key for task in more}
        return bool(more)

    @property
    def folder(self) -> Path:
        """Where logs and the lock are."""
        return self.store.folder

    def left(self) -> list[Task]:
        """The wanted tasks that are not finished."""
        return [task for task in self.tasks if task.key in self.wanted and not self.store.has(task)]

    def _preflight(self) -> None:
        """Fail the tasks with a setting that is wrong or missing, or without their workload's file, before a server starts for them."""
        reasons: dict[str, str | None] = {}
        for task in self.left():
            if task.kind == "recorded":
                continue
            parts = str((task.settings.engine, task.settings.workload))
            if parts not in reasons:
                reasons[parts] = None
                try:
                    _cell(task).preflight()
                except (ValueError, InstantiationException, OmegaConfBaseException) as error:
                    reasons[parts] = cli.cause(error)
            if (reason := reasons[parts]) is not None:
                self.failed[task.key] = " ".join(reason.split())

    def _next(self, serving: str | None) -> Task | None:
        """The first task that is left, can be done and fits into the time. serving: the engine that is running."""
        task = self._choose(serving)
        while task is None and self._extended():
            task = self._choose(serving)
        return task

    def _choose(self, serving: str | None) -> Task | None:
        left = [task for task in self.left() if task.key not in self.failed]
        return choose(
            left,
            done={task.key for task in self.tasks if self.store.has(task)},
            waiting={task.key for task in left},
            serving=serving,
            start=self.start,
            spare=None if self.until is None else self.until - (time.monotonic() - self.began),
        )

    def _visit(self, first: Task) -> None:
        """Start the server of a task, do the task and the following ones of the same engine, stop the server."""
        if first.kind == "recorded":
            self._recall(first)
            return
        log = self.folder / f".{first.engine}.server.log"
        task: Task | None = first
        ready: int | None = None  # bytes of the log when the server was
        try:
            cell = _cell(first)
            if cell.engine.environment is not None:
                with stage("environment", cell.engine.environment):
                    environment.ensure(cell.engine.environment)
            facts = cell.facts()
            if first.kind == "operations":
                self._time_operations(first, cell, log, facts)
                return
            with cell.serving(log) as endpoint:
                ready = log.stat().st_size
                while task is not None and task.engine == first.engine:
                    self._do(task, endpoint, log, ready, facts)
                    task = self._next(serving=first.engine)
        except (RuntimeError, ValueError) as error:
            if ready is None:  # no server: this call can measure nothing on that engine
                lost = [other for other in self.left() if other.engine == first.engine]
            else:
                lost = [other for other in self.left() if other is task]
            self.failed |= {other.key: _one_line(error) for other in lost}
            self._keep_log(task or first, log, _one_line(error))
        finally:
            log.unlink(missing_ok=True)

    def _time_operations(self, task: Task, cell: Cell, log: Path, facts: dict[str, Any]) -> None:
        """Time single operations with the engine's interpreter, no server running, and keep the result."""
        assert self.operations is not None
        if not isinstance(cell.engine, LocalEngine):
            raise EngineError(f"operations: engine {cell.engine.system} has no interpreter of its own that could time them")
        begun = self._announce(task)
        with stage("operations", f"of one layer, {self.operations.budget:g} s"):
            found = self.operations.measure(cell.engine, cell.model.config, str(cell.hardware["name"]), log, facts)
        self.store.keep_operations(task, found)
        self._close(task, begun)

    def _do(self, task: Task, endpoint: Endpoint, log: Path, ready: int, facts: dict[str, Any]) -> None:
        """Measure one task and keep its result. A run's log is the server's first `ready` bytes and what it wrote during the run."""
        begun = self._announce(task)
        cell = _cell(task)
        if task.kind == "profile":
            self.store.keep_profile(task, cell.find_profile(endpoint))
        elif task.kind == "capacity":
            self.store.keep_capacity(task, cell.find_capacity(endpoint))
        else:
            self._replay(task, cell, endpoint, log, (ready, log.stat().st_size), facts)
        self._close(task, begun)

    def _replay(self, task: Task, cell: Cell, endpoint: Endpoint, log: Path, parts: tuple[int, int], facts: dict[str, Any]) -> None:
        results = {other.key: other for other in self.tasks}
        capacity = next((self.store.capacity(results[key]) for key in task.needs), None)
        profile = next((self.store.profile(results[key]) for key in task.after if self.store.has(results[key])), None)
        if (
            task.at is not None and capacity is not None and cell.load.concurrency is None
        ):  # another engine's: it gives a rate, and is not this one's capacity
            cell = dataclasses.replace(cell, load=dataclasses.replace(cell.load, rho=None, rate=cell.load.offered(capacity["rate"])[0]))
            capacity = None
        replayed = cell.replay(endpoint, capacity)
        run = cell.run(replayed, endpoint, log, capacity=capacity, profile=profile, facts=facts)
        text = log.read_bytes()
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            own = Path(scratch) / "server.log"
            own.write_bytes(text[: parts[0]] + text[parts[1] :])
            self.store.keep_run(task, run, profile, own)
        say(f"  {run.run_id}: {'valid' if run.valid else f'INVALID: {run.invalid_reason}'}", style="" if run.valid else "bold red")

    def _recall(self, task: Task) -> None:
        """Take a stored run as the task's result."""
        self._announce(task)
        try:
            recorded: Recorded | Catalogued = instantiate(task.settings.engine, _convert_="all")
            with recorded.stored() as (run, profile, log):
                self.store.keep_run(task, run, profile, log)
        except RuntimeError as error:
            self.failed[task.key] = _one_line(error)

    def _announce(self, task: Task) -> float:
        """Say that a task begins; return when it does (time.monotonic())."""
        number, gone = len(self.wanted) - len(self.left()) + 1, (time.monotonic() - self.began) / 60
        where = f"{number} of {len(self.wanted)}, after {gone:.1f} min, {self._time_left()}"
        say(f"task {task.name} ({task.key})  {where}", style="bold")
        return time.monotonic()

    def _close(self, task: Task, begun: float) -> None:
        """Say how long a task took, so that the next plan can be better; remove the log of an earlier failure."""
        say(f"  {time.monotonic() - begun:.0f} s (about {task.seconds:.0f} expected)", style="dim")
        _failure_log(self.folder, task).unlink(missing_ok=True)

    def _keep_log(self, task: Task, log: Path, reason: str) -> None:
        """The server's log beside the results, with the reason as its last line."""
        kept = _failure_log(self.folder, task)
        if log.is_file():
            shutil.copyfile(log, kept)
        with kept.open("a") as out:
            out.write(f"\nplumbline, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}\n")

    def _say_state(self) -> None:
        left = len(self.left())
        done = len(self.wanted) - left
        more = f" ({progress.left(self._planned_left())})" if left else ""
        say(f"{self.folder}: {done} of {len(self.wanted)} tasks finished, {left} left{more}")

    def _time_left(self) -> str:
        """About how long what is left takes: by the plan, at the pace since this call's first task began, its server running."""
        left = self._planned_left()
        done = sum(task.seconds for task in self.tasks if task.key in self.wanted and self.store.has(task))
        self._remaining(done, done + left)
        seconds = self._remaining.seconds
        return progress.left(left if seconds is None else seconds)

    def _planned_left(self) -> float:
        """s that the plan gives to what is left and has not failed."""
        return sum(task.seconds for task in self.left() if task.key not in self.failed)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Lock the folder against a second campaign. The kernel releases the lock when the process dies."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError(f"{out}: another campaign writes here; wait for it, or give another folder with out=FOLDER") from error
        yield


def _failure_log(out: Path, task: Task) -> Path:
    return out / f"{task.name}-{task.key}.failed.log"


def _cell(task: Task) -> Cell:
    values = {name: task.settings[name] for name in CELL}
    parts = {name: instantiate(v, _convert_="all") if isinstance(v, DictConfig) else v for name, v in values.items()}
    return Cell(**parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
