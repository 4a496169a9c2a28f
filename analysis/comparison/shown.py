"""A comparison as people read it (text for a terminal, Markdown for a pull request) and as programs do (JSON)."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis import names
from analysis.comparison.compare import ComparedCells, ComparedSides
from analysis.comparison.difference import Difference
from analysis.comparison.verdicts import FigureVerdict, More
from analysis.tables import markdown

COLUMNS = ("figure", "A", "B", "difference", "interval", "noise", "verdict", "what would tell")
WORDS = {"better": "better", "worse": "WORSE", "same": "no difference", "cannot tell": "cannot tell"}
WIDTH = 132  # of the text, where it goes to no terminal


def answer(found: ComparedSides) -> str:
    """The sentence on top."""
    figures = sum(len(cells.figures) for cells in found.cells)
    counts = [f"{found.count(word)} {WORDS[word]}" for word in ("worse", "better", "same", "cannot tell")]
    cells = f" in {len(found.cells)} cells" if len(found.cells) > 1 else ""
    return f"B ({found.other}) against A ({found.one}): of {figures} figures{cells} {', '.join(counts)}."


def as_markdown(found: ComparedSides) -> str:
    """A section per cell."""
    parts = [f"**{answer(found)}**", legend(found)]
    for cells in found.cells:
        notes = "".join(f"- {note}\n" for note in cells.notes)
        parts.append("\n\n".join(part for part in (f"### {cells.pair.title}", notes.rstrip(), markdown(rows(cells)).rstrip()) if part))
    return "\n\n".join([*parts, *rest(found)])


def as_text(found: ComparedSides, width: int | None = None) -> str:
    """A table per cell."""
    console = Console(width=width or WIDTH, highlight=False, no_color=True)
    with console.capture() as captured:
        console.print(answer(found), soft_wrap=True, markup=False)
        for cells in found.cells:
            console.print(f"\n{cells.pair.title}", *(f"  {note}" for note in cells.notes), sep="\n", soft_wrap=True, markup=False)
            console.print(_table(rows(cells)))
        for line in (legend(found), *rest(found)):
            console.print(line, soft_wrap=True, markup=False)
    return captured.get().rstrip()


def as_json(found: ComparedSides) -> str:
    """Everything, at full precision: times in seconds, rates per second, differences and floors relative; null is unknown."""
    return json.dumps(
        {
            "a": found.one,
            "b": found.other,
            "margin": found.judged.margin,
            "confidence": found.judged.bootstrap.confidence,
            "counts": {word: found.count(word) for word in WORDS},
            "cells": [_cell(cells) for cells in found.cells],
            "alone": list(found.alone),
            "left_out": list(found.left_out),
        },
        indent=1,
    )


def _cell(cells: ComparedCells) -> dict[str, Any]:
    return {
        "a_runs": [run.run_id for run in cells.pair.one.runs],
        "b_runs": [run.run_id for run in cells.pair.other.runs],
        "settings": {name: list(values) for name, values in cells.pair.differing.items()},
        "paired": cells.paired,
        "notes": list(cells.notes),
        "figures": [_figure(difference, verdict) for difference, verdict in cells.figures],
    }


def _figure(difference: Difference, verdict: FigureVerdict) -> dict[str, Any]:
    more = verdict.more
    return {
        "metric": difference.key[0],
        "stat": difference.key[1],
        "a": difference.one,
        "b": difference.other,
        "difference": difference.relative,
        "low": difference.low,
        "high": difference.high,
        "noise": difference.noise.floor,
        "noise_measured": difference.noise.measured,
        "chance": verdict.chance,
        "verdict": verdict.word,
        "more": None if more is None else {name: value for name, value in vars(more).items() if value is not None},
    }


def rows(cells: ComparedCells) -> pd.DataFrame:
    """A row for each figure, as text."""
    found = [
        (
            names.metric_with_unit(*difference.key),
            names.number(names.shown_value(difference.key[0], difference.one)),
            names.number(names.shown_value(difference.key[0], difference.other)),
            names.percent(difference.relative),
            names.interval(difference.low, difference.high) or names.NO_INTERVAL,
            names.percent(difference.noise.floor, sign=False) + ("" if difference.noise.measured else " assumed"),
            WORDS[verdict.word],
            _more(verdict.more),
        )
        for difference, verdict in cells.figures
    ]
    return pd.DataFrame(found, columns=list(COLUMNS), dtype=object)


def _more(more: More | None) -> str:
    if more is None:
        return ""
    if more.requests is not None:
        return f"{more.requests:,} requests a run at this load"
    if more.repeats is None or more.times is None:
        return str(more.why)
    times = "" if more.times == 1 else f"{more.times} × the requests"
    repeats = "" if more.repeats == 1 else f"{more.repeats} runs of each"
    return " of ".join(part for part in (repeats, times) if part) or "fewer figures (--metrics)"


def _table(frame: pd.DataFrame) -> Table:
    table = Table()
    for name in frame.columns:
        table.add_column(name, justify="left" if name in (COLUMNS[0], *COLUMNS[-2:]) else "right", overflow="fold")
    for row in frame.to_numpy().tolist():
        table.add_row(*row)
    return table


def legend(found: ComparedSides) -> str:
    """How intervals and verdicts are to be read."""
    level, margin = (names.percent(value, sign=False) for value in (found.judged.bootstrap.confidence, found.judged.margin))
    return (
        f"Intervals are of {level}, each by itself; a verdict is beyond doubt for all figures at once (Holm). "
        f"A difference of up to {margin} counts as none."
    )


def rest(found: ComparedSides) -> Sequence[str]:
    """What is not compared, a line each."""
    return (*found.alone, *found.left_out)
