"""Which step of a campaign comes next, and so which ones a given time will hold: the campaign's choice, and the same choice foretold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.grid.plan import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A step foretold. begins, ends: s from the start of the call; None when the time does not reach it. starts: a server starts first."""

    step: Step
    begins: float | None
    ends: float | None
    starts: bool


def starting(step: Step, serving: str | None, start: float) -> float:
    """s until the step's server is ready: 0 when it is the one running, or when the step needs none."""
    return 0.0 if step.engine == serving or step.kind == "operations" else start


def choose(
    left: Sequence[Step], *, done: Collection[str], waiting: Collection[str], serving: str | None, start: float, spare: float | None
) -> Step | None:
    """The first of the steps that are left which can be done and fits into the time.

    done: keys of the finished ones. waiting: keys of those that are yet to be tried. serving: the engine that is running. start: s that a
    server takes to start. spare: s that are left; None: no end.
    """
    for step in left:
        if not set(step.needs) <= set(done) or any(key in waiting for key in step.after):
            continue
        if spare is None or starting(step, serving, start) + step.seconds <= spare:
            return step
    return None


def timetable(wanted: Sequence[Step], *, done: Collection[str], start: float, until: float | None) -> list[Slot]:
    """The wanted steps in the order in which they will be done, those that the time does not reach at the end.

    done: keys of the finished ones, wanted or not.
    """
    left, over = [step for step in wanted if step.key not in done], set(done)
    slots: list[Slot] = []
    now, serving = 0.0, None
    while True:
        waiting = {step.key for step in left}
        step = choose(left, done=over, waiting=waiting, serving=serving, start=start, spare=None if until is None else until - now)
        if step is None and serving is None:
            return slots + [Slot(step=rest, begins=None, ends=None, starts=False) for rest in left]
        if step is None or (serving is not None and step.engine != serving):
            serving = None  # its server stops; then the choice is made again
            continue
        wait = starting(step, serving, start)
        slots.append(Slot(step=step, begins=now, ends=now + wait + step.seconds, starts=wait > 0))
        now, serving = now + wait + step.seconds, None if step.kind == "operations" else step.engine
        over.add(step.key)
        left.remove(step)
