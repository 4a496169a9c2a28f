"""Which task comes next, and which tasks a given time will hold: `choose` is the runner's choice, `timetable` foretells it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.grid.plan import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """When a task will be done."""

    task: Task
    begins: float | None  # s from the start of the call; None: the time does not reach it
    ends: float | None  # likewise
    starts: bool  # a server starts first


def starting(task: Task, serving: str | None, start: float) -> float:
    """s until the task's server is ready: 0 when it is the one running, or when the task needs none."""
    return 0.0 if task.engine == serving or task.kind == "operations" else start


def choose(
    left: Sequence[Task], *, done: Collection[str], waiting: Collection[str], serving: str | None, start: float, spare: float | None
) -> Task | None:
    """Of the tasks that are left, the first that can be done and fits into the time.

    done: keys of the finished ones. waiting: keys of those that are yet to be tried. serving: the engine that is running. start: s that a
    server takes to start. spare: s that are left; None: no end.
    """
    for task in left:
        if not set(task.needs) <= set(done) or any(key in waiting for key in task.after):
            continue
        if spare is None or starting(task, serving, start) + task.seconds <= spare:
            return task
    return None


def timetable(wanted: Sequence[Task], *, done: Collection[str], start: float, until: float | None) -> list[Slot]:
    """The wanted tasks in the order in which they will be done, those that the time does not reach at the end.

    done: keys of the finished ones, wanted or not.
    """
    left, over = [task for task in wanted if task.key not in done], set(done)
    slots: list[Slot] = []
    now, serving = 0.0, None
    while True:
        waiting = {task.key for task in left}
        task = choose(left, done=over, waiting=waiting, serving=serving, start=start, spare=None if until is None else until - now)
        if task is None and serving is None:
            return slots + [Slot(task=rest, begins=None, ends=None, starts=False) for rest in left]
        if task is None or (serving is not None and task.engine != serving):
            serving = None  # its server stops; then the choice is made again
            continue
        wait = starting(task, serving, start)
        slots.append(Slot(task=task, begins=now, ends=now + wait + task.seconds, starts=wait > 0))
        now, serving = now + wait + task.seconds, None if task.kind == "operations" else task.engine
        over.add(task.key)
        left.remove(task)
