"""The final table at any width: whole columns or none, never wrapped, and what is left out is said."""

import io
import os
import subprocess
import sys

import pandas as pd
import pytest
from rich.console import Console

from harness import console
from results.project.folder import ROOT

HEADS = ["TTFT\np50 ms", "TPOT\np50 ms", "Output\ntokens/s", "TTFT\np99 ms", "TPOT\np99 ms", "E2E\np50 ms", "Goodput\nreq/s", "E2E\np99 ms"]
RUNS = ["vllm measured", "native:calibrated", "native:matched", "vidur:calibrated", "aisimulate:shipped", "splitwise_sim:calibrated*"]
CELLS = [[f"{i}{j} 00" if i == 0 else f"+{i}{j}.5" for j in range(len(HEADS))] for i in range(len(RUNS))]
FRAME = pd.DataFrame([[run, *cells] for run, cells in zip(RUNS, CELLS, strict=True)], columns=["run\nerror %", *HEADS])
NOTE = "Errors in %, nearest first." + " A long explanation of what that means." * 4


def printed(monkeypatch: pytest.MonkeyPatch, width: int, frame: pd.DataFrame = FRAME) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out, width=width, force_terminal=True, color_system=None, soft_wrap=True))
    console.print_table(frame, "run-1", NOTE)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_each_row_is_one_line_and_what_has_no_room_is_named(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = printed(monkeypatch, width)
    assert max(map(len, lines)) <= min(width, 100)
    rows = [line.split() for line in lines if any(line.startswith(run) for run in RUNS)]
    assert len(rows) == len(RUNS)  # in their order, each once
    words = " ".join(lines)
    shown = [head for j, head in enumerate(HEADS) if CELLS[1][j] in words]
    assert shown == HEADS[: len(shown)] and shown  # the first ones: the last matter least
    for run, cells, row in zip(RUNS, CELLS, rows, strict=True):
        assert " ".join(row) == " ".join([run, *cells[: len(shown)]])
    left_out = ", ".join(head.replace("\n", " ") for head in HEADS[len(shown) :])
    assert (f"No room for {left_out}: the page has them." in words) == (len(shown) < len(HEADS))


def test_more_room_shows_more(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [sum(CELLS[1][j] in " ".join(printed(monkeypatch, width)) for j in range(len(HEADS))) for width in (40, 60, 80, 100, 200)]
    assert shown == sorted(shown)
    assert shown[0] < shown[2] < shown[3] == shown[4] == len(HEADS)


def test_a_measured_run_alone_is_a_table_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("vllm measured" in line for line in printed(monkeypatch, 80, FRAME.head(1)))


@pytest.mark.parametrize("columns", [None, "60"])
def test_a_file_gets_the_whole_table_unless_a_width_is_asked_for(columns: str | None) -> None:
    script = (
        "from harness.console import print_table; from tests.harness.test_console import FRAME, NOTE; print_table(FRAME, 'run-1', NOTE)"
    )
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | ({"COLUMNS": columns} if columns else {})
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert all(cell in done.stdout for cells in CELLS for cell in cells[:4])
    assert all(run in done.stdout for run in RUNS)
    assert ("No room for" in done.stdout) == (columns is not None)
    assert max(map(len, done.stdout.splitlines())) <= int(columns or 100)
