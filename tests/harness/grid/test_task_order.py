"""What a given time holds: the campaign's own choice, foretold."""

from collections.abc import Sequence

import pytest
from omegaconf import OmegaConf

from harness.grid.plan import Kind, Task
from harness.grid.task_order import timetable

START = 100.0


def task(name: str, engine: str, seconds: float, *, kind: Kind = "run", needs: Sequence[str] = (), after: Sequence[str] = ()) -> Task:
    settings = OmegaConf.create()
    return Task(
        kind=kind, name=name, key=name, engine=engine, seconds=seconds, settings=settings, group="g", needs=tuple(needs), after=tuple(after)
    )


STEPS = [
    task("a-profile", "a", 50, kind="profile"),
    task("a-capacity", "a", 20, kind="capacity", after=["a-profile"]),
    task("a-run", "a", 30, needs=["a-capacity"], after=["a-profile"]),
    task("b-run", "b", 30),
    task("operations", "o", 60, kind="operations"),
    task("a-later", "a", 10, needs=["a-capacity"]),
]


def foretold(until: float | None, done: Sequence[str] = ()) -> list[tuple[str, float | None, float | None, bool]]:
    return [(s.task.name, s.begins, s.ends, s.starts) for s in timetable(STEPS, done=done, start=START, until=until)]


def test_without_an_end_all_is_done_in_order_and_each_change_of_engine_starts_a_server() -> None:
    assert foretold(None) == [
        ("a-profile", 0, 150, True),
        ("a-capacity", 150, 170, False),
        ("a-run", 170, 200, False),
        ("b-run", 200, 330, True),
        ("operations", 330, 390, False),  # it needs no server
        ("a-later", 390, 500, True),
    ]


def test_what_still_fits_is_put_in_where_the_next_in_value_does_not() -> None:
    assert foretold(215) == [
        ("a-profile", 0, 150, True),
        ("a-capacity", 150, 170, False),
        ("a-run", 170, 200, False),
        ("a-later", 200, 210, False),
        ("b-run", None, None, False),
        ("operations", None, None, False),
    ]


def test_nothing_begins_without_what_it_needs() -> None:
    # the profile would not end in time, so the capacity waits for it, and the run for that
    assert [row for row in foretold(125) if row[1] is not None] == [("operations", 0, 60, False)]


def test_what_is_finished_takes_no_time() -> None:
    assert foretold(None, done=["a-profile", "a-capacity", "a-run"])[0] == ("b-run", 0, 130, True)


@pytest.mark.parametrize("until", [1.0, 90.0, 160.0, 210.0, 333.0, 1e9])
def test_nothing_ends_after_the_time_and_nothing_is_lost_or_doubled(until: float) -> None:
    slots = timetable(STEPS, done=(), start=START, until=until)
    assert sorted(slot.task.name for slot in slots) == sorted(task.name for task in STEPS)
    assert all(slot.ends is None or slot.ends <= until for slot in slots)
