"""The page of compared settings, from the file that `./plumbline plan compare` writes. Read `CompareReport.write`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from analysis import names
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.page.summary import StudySummary
from analysis.plan.beside import write_beside
from analysis.plan.figures import LINES
from analysis.plots import OTHER, blank

LATENCIES = (("ttft_p50", "TTFT p50 (ms)"), ("ttft_p99", "TTFT p99 (ms)"), ("tpot_p50", "TPOT p50 (ms)"), ("tpot_p99", "TPOT p99 (ms)"))
HEADS = ("Settings", "Devices", "Requests/s", "95 % interval", "A device", *(head for _, head in LATENCIES), "Why not")
FOOTER = "Latencies are those at the rate. ★: on the front, which no other settings beat in both requests/s a device and median TPOT."


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """out: the page to write; None: compare.html beside the comparison."""

    out: Path | str | None = None

    def write(self, compared: Path) -> StudySummary:
        """Write the page of a compare.json."""
        return write_beside(compared, self.out, _page)


def _page(compared: Mapping[str, Any]) -> str:
    rows = compared["settings"]
    return document.page(
        title="Settings compared · Plumbline",
        verdict=compared["headline"],
        valid=any(row["rate"] for row in rows),
        notice=None,
        context=escape(compared["asked"]),
        scorecard=document.table(HEADS, [_row(row) for row in rows], "The highest rate of each", "wrapping plain"),
        sections=_sections(rows),
        key="",
        details="",
        footer=FOOTER,
    )


def _sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    shown = [row for row in rows if row["rate_per_device"] and row["tpot_p50"]]
    if not shown:
        return []
    drawing = Drawing(
        name="front",
        title="Rate of a device against the speed of a user",
        caption="A mark is a combination of settings, at the highest rate within the limits; the line is the front.",
        figure=_front(shown),
        wide=True,
    )
    return [Section(title="What nothing beats", note="Up and to the left is better.", drawings=[drawing])]


def _front(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    figure = blank()
    best = sorted((row for row in rows if row["front"]), key=lambda row: float(row["tpot_p50"]))
    marks, line = {"color": LINES[2], "size": 8}, {"color": OTHER, "width": 1.5}
    for name, some, look in (("front", best, {"mode": "lines", "line": line}), ("settings", rows, {"mode": "markers", "marker": marks})):
        figure.add_scatter(
            x=[1e3 * row["tpot_p50"] for row in some],
            y=[row["rate_per_device"] for row in some],
            text=[row["label"] for row in some],
            name=name,
            hovertemplate="%{text}<br>TPOT p50 %{x:.3~g} ms<br>%{y:.3~g} requests/s a device<extra></extra>",
            **look,
        )
    figure.update_xaxes(title_text="median TPOT (ms)", rangemode="tozero")
    figure.update_yaxes(title_text="requests/s a device", rangemode="tozero", automargin=True)
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"}, height=420, margin={"b": 110})
    return figure


def _row(row: Mapping[str, Any]) -> str:
    interval = "–" if row["rate"] is None else f"{names.number(row['low'])} to {names.number(row['high'])}"
    cells = [
        "–" if row["devices"] is None else str(row["devices"]),
        names.number(row["rate"]),
        interval,
        names.number(row["rate_per_device"]),
        *(names.number(None if row[key] is None else 1e3 * row[key]) for key, _ in LATENCIES),
    ]
    mark = " ★" if row["front"] else ""
    head = f'<th scope="row">{escape(row["label"])}{mark}</th>'
    why = f'<td class="words">{escape(row["why_not"] or "")}</td>'
    return f"<tr>{head}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}{why}</tr>"
