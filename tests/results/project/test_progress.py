"""Progress of long work: what is told is monotone and ends whole, the remaining time follows the clock, short work prints nothing."""

import io
import os
import pty
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from rich.console import Console

from results.project.folder import ROOT
from results.project.progress import Remaining, each, left
from results.project.progress_bar import LONG, SHORT, Lines, shown


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- each


def test_a_loop_tells_what_is_done_before_each_item_and_at_the_end() -> None:
    told: list[tuple[float, float]] = []
    items = [30, 0, 10, 60]
    assert list(each(items, lambda done, total: told.append((done, total)), weight=float)) == items
    assert told == [(0, 100), (30, 100), (30, 100), (40, 100), (100, 100)]


def test_without_weights_every_item_is_as_much_work() -> None:
    told: list[tuple[float, float]] = []
    assert list(each("abc", lambda done, total: told.append((done, total)))) == ["a", "b", "c"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_loop_that_nobody_watches_is_the_same_loop() -> None:
    assert list(each([1, 2], None, weight=lambda item: 1 / 0)) == [1, 2]


@pytest.mark.parametrize("weights", [[0.1] * 10, [1e9, 1e-9, 0.3], [1 / 3] * 7])
def test_what_is_done_never_falls_never_passes_the_whole_and_ends_there(weights: list[float]) -> None:
    told: list[tuple[float, float]] = []
    list(each(weights, lambda done, total: told.append((done, total)), weight=lambda weight: weight))
    done = [one for one, _ in told]
    assert done == sorted(done) and len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]


# --- the remaining time


def test_nothing_done_is_no_estimate() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    assert (remaining.share, remaining.seconds, str(remaining)) == (None, None, "")
    remaining(0, 100)
    clock.now += 3600
    assert (remaining.share, remaining.seconds, str(remaining)) == (0, None, "0 %")


@pytest.mark.parametrize("pace", [0.01, 1.0, 250.0])
def test_at_an_even_pace_the_estimate_is_the_truth_at_any_time(pace: float) -> None:
    clock = Clock()
    remaining = Remaining(clock)
    remaining(0, 1000)
    for done in (1, 10, 500, 990):
        clock.now = 1000.0 + done / pace
        remaining(done, 1000)
        assert remaining.seconds == pytest.approx((1000 - done) / pace)


def test_it_runs_down_while_nothing_new_is_told_and_never_below_zero() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    remaining(0, 4)
    clock.now += 30
    remaining(1, 4)
    seen = []
    for _ in range(5):
        seen.append(remaining.seconds)
        clock.now += 30
    assert seen == [90, 60, 30, 0, 0]


def test_what_was_done_before_says_nothing_of_the_pace() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    remaining(80, 100)  # an earlier call's
    clock.now += 10
    remaining(81, 100)
    assert remaining.seconds == pytest.approx(190)


def test_other_work_has_a_pace_of_its_own() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    for done in (0, 100):
        remaining(done, 100)
        clock.now += 100
    remaining(0, 50)
    assert remaining.seconds is None
    clock.now += 1
    remaining(25, 50)
    assert remaining.seconds == pytest.approx(1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a few seconds left"),
        (12, "about 10 s left"),
        (54.9, "about 55 s left"),
        (56, "about 1 min left"),
        (170, "about 3 min left"),
        (5000, "about 83 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_the_words_are_as_round_as_they_are_right(seconds: float, words: str) -> None:
    assert left(seconds) == words


# --- lines, where there is no terminal


def lines(seconds: float, steps: int) -> list[tuple[float, str]]:
    """(when, line) of work of so many even steps."""
    clock, out = Clock(), io.StringIO()
    with shown("database", Console(file=out, width=20, soft_wrap=True), clock=clock) as progress:
        found: list[tuple[float, str]] = []
        for done in range(steps + 1):
            clock.now = 1000.0 + seconds * done / steps
            progress(done, steps)
            found += [(clock.now - 1000, line) for line in out.getvalue().splitlines()[len(found) :]]
    return found


def test_short_work_prints_nothing() -> None:
    assert lines(0.9 * SHORT, 100) == []


@pytest.mark.parametrize(("seconds", "steps"), [(35, 1000), (120, 7), (600, 600), (36_000, 5000)])
def test_long_work_prints_a_line_now_and_then_and_at_the_end(seconds: float, steps: int) -> None:
    found = lines(seconds, steps)
    shares = [int(re.fullmatch(r"database: (\d+) %(, .* left)?", line)[1]) for _, line in found]  # type: ignore[index]
    assert shares == sorted(shares) and shares[-1] == 100
    times = [0.0, *(when for when, _ in found)]
    between = [after - before for before, after in pairwise(times)]
    assert all(gap >= SHORT for gap in between[:-1]) and max(between) <= LONG + seconds / steps
    assert all(line.endswith(" left") for _, line in found[:-1])


def test_work_that_never_says_how_much_it_is_prints_nothing() -> None:
    clock, out = Clock(), io.StringIO()
    told = Lines("start", Console(file=out), clock)
    for _ in range(100):
        clock.now += SHORT
        told(1, 0)
    assert out.getvalue() == ""


# --- a real terminal, a real pipe

WORK = """
from results.project.progress_bar import shown
with shown("database") as progress:
    for done in range(4):
        progress(done, 4)
        if done == 3:
            input()
    progress(4, 4)
print("done")
"""


def test_on_a_terminal_a_bar_says_what_is_left_and_is_gone_in_the_end() -> None:
    master, slave = pty.openpty()
    environ, pipe = os.environ | {"TERM": "xterm"}, subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while b" left" not in seen:  # until the bar is drawn, however long that takes
            seen += os.read(master, 4096)
        assert b"75 %, a few seconds left" in seen
        assert process.communicate(b"\n")[0] == b"done\n"
    while True:
        try:
            seen += os.read(master, 4096)
        except OSError:  # all is read
            break
    os.close(master)
    assert b"100 %" in seen and b"\x1b[2K" in seen.rpartition(b"100 %")[2]  # the line was erased


def test_in_a_pipe_there_are_no_escape_sequences_and_nothing_of_short_work() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, input=b"\n", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"done\n", b"")
