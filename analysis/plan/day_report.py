"""The page of a day, from the file that `./plumbline plan day` writes. Read `DayReport.write`."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from analysis import names
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.page.summary import StudySummary
from analysis.plan import day_figures
from analysis.plan.beside import write_beside

HEADS = ("Fleet", "Class", "GPU-hours", "Dollars", "Good", "Worst hour", "TTFT p99 (ms)", "TPOT p50 (ms)")
FOOTER = (
    "A request is good when it meets the SLO of its class. A replica is paid for from its start until its last request has ended. Both "
    "fleets serve the same requests; every one of them is simulated."
)


@dataclass(frozen=True, kw_only=True)
class DayReport:
    """out: the page to write; None: day.html beside the day."""

    out: Path | str | None = None

    def write(self, day: Path) -> StudySummary:
        """Write the page of a day.json."""
        return write_beside(day, self.out, _page)


def _page(day: Mapping[str, Any]) -> str:
    rows = [row for name, fleet in day["fleets"].items() for row in _rows(name, fleet)]
    return document.page(
        title="A day · Plumbline",
        verdict=day["headline"],
        valid=day["met"],
        notice=None,
        context="</p><p class=context>".join(escape(sentence) for sentence in (day["asked"], *day["notes"])),
        scorecard=document.table(HEADS, rows, "A day on both fleets", "plain"),
        sections=[Section(title="Over the day", note="Hours from the profile's first.", drawings=_drawings(day))],
        key="",
        details=document.table(_hour_heads(day), [_hour(day, hour) for hour in range(24)], "Hour by hour", "plain"),
        footer=FOOTER,
    )


def _drawings(day: Mapping[str, Any]) -> list[Drawing]:
    return [
        Drawing(
            name="good",
            title="Good requests of each hour",
            caption="The share that meets the SLO, by the hour of its arrival; dotted: what is wanted.",
            figure=day_figures.good(day),
            wide=True,
        ),
        Drawing(
            name="rate",
            title="What is asked",
            caption="The rate over the day.",
            figure=day_figures.rate(day),
        ),
        Drawing(
            name="replicas",
            title="Replicas that are paid for",
            caption="Those that start and those that drain are among them.",
            figure=day_figures.replicas(day),
        ),
    ]


def _rows(name: str, fleet: Mapping[str, Any]) -> list[str]:
    return [_row(name, fleet, whose, found) for whose, found in fleet["classes"].items()]


def _row(name: str, fleet: Mapping[str, Any], whose: str, found: Mapping[str, Any]) -> str:
    shares = [share for share in found["good_by_hour"] if share is not None]
    cells = [
        whose,
        names.number(fleet["gpu_hours"]),
        names.number(fleet["dollars"]),
        names.share(found["good"]),
        names.share(min(shares, default=None)),
        names.number(_ms(found["ttft_p99"])),
        names.number(_ms(found["tpot_p50"])),
    ]
    return f'<tr><th scope="row">{escape(name)}</th>{_cells(cells)}</tr>'


def _hour_heads(day: Mapping[str, Any]) -> list[str]:
    fleets = day["fleets"]
    shares = [
        f"Good, {name}, {whose}" if len(fleet["classes"]) > 1 else f"Good, {name}"
        for name, fleet in fleets.items()
        for whose in fleet["classes"]
    ]
    return ["Hour", "Requests/s", *(f"Replicas, {name}" for name in fleets), *shares]


def _hour(day: Mapping[str, Any], hour: int) -> str:
    fleets = day["fleets"].values()
    shares = [found["good_by_hour"][hour] for fleet in fleets for found in fleet["classes"].values()]
    cells = [names.number(day["rate_by_hour"][hour]), *(names.number(fleet["replicas_by_hour"][hour]) for fleet in fleets)]
    cells += [names.share(share) for share in shares]
    return f'<tr><th scope="row">{hour}</th>{_cells(cells)}</tr>'


def _cells(cells: list[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
