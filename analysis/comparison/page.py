"""A comparison as one HTML page, in the look of the other pages. Read `write`."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis import names
from analysis.comparison import shown
from analysis.comparison.compare import ComparedCells, ComparedSides
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.plots import COLORS, OTHER, blank

# Okabe and Ito's palette, as of analysis/plots.py
TINTS = {"better": "#009E73", "worse": "#D55E00", "same": COLORS["vllm"], "cannot tell": OTHER}
ROW, FRAME = 26, 110  # px: of a figure's row, and of what is around the rows
FOOTER = (
    "Differences are B over A. Latencies count from the intended arrival; throughput and goodput are over the run's window. "
    "docs/compare.md says what stands behind an interval and a verdict."
)


def write(found: ComparedSides, out: Path) -> Path:
    """Write the page, whole or not at all; return it."""
    worse = found.count("worse")
    page = document.page(
        title="Two builds · Plumbline",
        verdict=shown.answer(found),
        valid=not worse,
        notice=None,
        context=escape(shown.legend(found)),
        scorecard="",
        sections=[_section(number, cells) for number, cells in enumerate(found.cells)],
        key="",
        details="\n".join(["<h2>In figures</h2>", *(_details(cells) for cells in found.cells), *_rest(found)]),
        footer=FOOTER,
    )
    document.write(out, page)
    return out


def _section(number: int, cells: ComparedCells) -> Section:
    drawing = Drawing(
        name=f"differences-{number}",
        title="B over A",
        caption="A mark a figure: its difference, with the 95 % interval of that figure by itself. Open marks have no interval.",
        figure=_differences(cells),
        wide=True,
    )
    return Section(title=cells.pair.title, note=" ".join(f"{note}." for note in cells.notes), drawings=[drawing])


def _differences(cells: ComparedCells) -> go.Figure:
    """The differences in per cent, the first figure on top; those without an interval are open marks."""
    figure = blank()
    known = [(difference, verdict) for difference, verdict in cells.figures if difference.relative is not None]
    for word, color in TINTS.items():
        mine = [difference for difference, verdict in known if verdict.word == word]
        values = [100 * (difference.relative or 0.0) for difference in mine]
        highs = [_reach(difference.relative, difference.high) for difference in mine]
        lows = [_reach(difference.relative, difference.low) for difference in mine]
        figure.add_scatter(
            x=values,
            y=[names.metric(*difference.key) for difference in mine],
            error_x={"type": "data", "array": highs, "arrayminus": lows, "color": color, "thickness": 1.5, "width": 4},
            mode="markers",
            marker={"color": color, "size": 9, "symbol": ["circle-open" if d.low is None else "circle" for d in mine]},
            name=shown.WORDS[word],
            hovertemplate="%{y}: %{x:+.2f} %<extra></extra>",
        )
    rows = [names.metric(*difference.key) for difference, _ in known]
    figure.add_vline(x=0, line={"color": OTHER, "width": 1})
    figure.update_xaxes(title_text="difference (%)", ticksuffix=" %", zeroline=False)
    figure.update_yaxes(categoryorder="array", categoryarray=rows[::-1], automargin=True)
    figure.update_layout(height=FRAME + ROW * len(rows), legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"})
    return figure


def _reach(value: float | None, end: float | None) -> float | None:
    """From a difference to an end of its interval, in per cent; None: it has none."""
    return None if value is None or end is None else 100 * abs(end - value)


def _details(cells: ComparedCells) -> str:
    runs = {"A": [run.run_id for run in cells.pair.one.runs], "B": [run.run_id for run in cells.pair.other.runs]}
    told = {f"run of {side}, {number + 1}": name for side, of in runs.items() for number, name in enumerate(of)}
    settings = {name: f"{one} | {other}" for name, (one, other) in cells.pair.differing.items()}
    facts = document.facts({**settings, **told}, "Settings that differ, and the runs")
    return document.text_table(shown.rows(cells), cells.pair.title) + document.disclosure("Settings and runs", cells.pair.title, facts)


def _rest(found: ComparedSides) -> list[str]:
    lines = "".join(f"<li>{escape(line)}</li>" for line in shown.rest(found))
    return [f"<h2>What is not compared</h2><ul>{lines}</ul>"] if lines else []
