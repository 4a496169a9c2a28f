"""The page of a recommendation, from the file that `./plumbline plan recommend` writes. Read `PlanReport.write`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from analysis import names
from analysis.page import document
from analysis.page.document import Drawing, Section
from analysis.page.summary import StudySummary
from analysis.plan import figures
from analysis.plan.beside import write_beside

ROWS = 40  # of the table of ways
HEADS = (
    "Way",
    "Replicas",
    "Devices",
    "Dollars/h",
    "Good",
    "TTFT p99 (ms)",
    "TPOT p50 (ms)",
    "Tokens/s a GPU",
    "Tokens/s a user",
    "Limited by",
    "Error seen",
)
FOOTER = (
    "A request is good when it meets the SLO. One replica is simulated at its share of the rate, as behind a router that does not look. "
    "Tokens/s of a user are of the median TPOT. Error seen: of such predictions against measurements on the same GPU, in the mean."
)


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """out: the page to write; None: plan.html beside the plan."""

    out: Path | str | None = None

    def write(self, plan: Path) -> StudySummary:
        """Write the page of a plan.json."""
        return write_beside(plan, self.out, _page)


def _page(plan: Mapping[str, Any]) -> str:
    sentences = [sentence for sentence in (plan["asked"], plan["sure"], *plan["notes"]) if sentence]
    return document.page(
        title="Which machines · Plumbline",
        verdict=plan["headline"],
        valid=plan["choice"] is not None,
        notice=None,
        context="</p><p class=context>".join(escape(sentence) for sentence in sentences),
        scorecard="",
        sections=_sections(plan),
        key="",
        details=_details(plan),
        footer=FOOTER,
    )


def _sections(plan: Mapping[str, Any]) -> list[Section]:
    served = [way for way in plan["ways"] if way["replicas"] is not None]
    if not served:
        return []
    measure = "devices" if plan["measure"] == "devices" else "dollars"
    cost = Drawing(
        name="cost",
        title="The least of each GPU",
        caption="The cheapest way of each GPU that meets the SLO; colours say what limits it, as above.",
        figure=figures.cost(served, measure),
    )
    front = Drawing(
        name="front",
        title="Throughput of a GPU against the speed of a user",
        caption="A mark is a way to serve with the fewest replicas that meet the SLO; the star is the choice, the line what nothing beats.",
        figure=figures.front(served),
        wide=True,
    )
    drawings = [cost, *_heat_map(plan, measure)]
    return [
        Section(title="What nothing beats", note="Colours say what limits a way.", drawings=[front]),
        Section(title="What it costs", note=f"Each at {plan['rate']:g} requests/s.", drawings=drawings),
        *_curves(plan),
    ]


def _heat_map(plan: Mapping[str, Any], measure: str) -> list[Drawing]:
    if len(plan["told"]) < 2:
        return []
    across, up = plan["told"][:2]
    return [
        Drawing(
            name="map",
            title=f"{'Devices' if measure == 'devices' else 'Dollars an hour'} over {across} and {up}",
            caption="The least that any other settings reach; where a field is empty nothing meets the SLO.",
            figure=figures.heat_map(plan["ways"], across, up, measure),
        )
    ]


def _curves(plan: Mapping[str, Any]) -> list[Section]:
    if not plan["curves"]:
        return []
    slo, rate = plan["slo"], plan["rate"]
    drawings = [
        Drawing(
            name=metric,
            title=f"{label} against the rate",
            caption="The machines stay, the rate changes. Dotted: the SLO's limit, and the rate that was asked for.",
            figure=figures.curves(plan["curves"], metric, label, slo[limit], rate),
        )
        for metric, label, limit in (("ttft_p99", "TTFT p99", "ttft"), ("tpot_p50", "TPOT p50", "tpot"))
    ]
    return [Section(title="When there is more or less to do", note="Of the choice, and of others on the front.", drawings=drawings)]


def _details(plan: Mapping[str, Any]) -> str:
    measure = "devices" if plan["measure"] == "devices" else "dollars"
    served = [way for way in plan["ways"] if way["replicas"] is not None]
    served.sort(key=lambda way: (float(way[measure] or 0.0), -float(way["tokens_per_user"] or 0.0)))
    parts = []
    if plan["starts"]:
        commands = "".join(f"<pre>{escape(line)}</pre>" for line in plan["starts"])
        parts.append(document.disclosure("How it is started", "MODEL: a folder or a name of the hub", commands))
    if served:
        caption = f"Ways that meet the SLO, the cheapest first{_left_out(len(served))}"
        parts += ["<h2>Ways to serve</h2>", document.table(HEADS, [_row(way) for way in served[:ROWS]], caption, "plain")]
    lost = [way for way in plan["ways"] if way["replicas"] is None]
    if lost:
        parts += [
            "<h2>Ways that cannot</h2>",
            document.table(["For", "Ways", "For example"], _reasons(lost), "Why not, by what is missing", "wrapping plain"),
        ]
    return "\n".join(parts)


def _left_out(number: int) -> str:
    return f"; {number - ROWS} dearer ones are in plan.json" if number > ROWS else ""


def _row(way: Mapping[str, Any]) -> str:
    cells = [
        str(way["replicas"]),
        str(way["devices"]),
        names.number(way["dollars"]),
        names.share(way["good"]),
        names.number(_ms(way["ttft_p99"])),
        names.number(_ms(way["tpot_p50"])),
        names.number(way["tokens_per_device"]),
        names.number(way["tokens_per_user"]),
        way["limit"] or "–",
        way["seen"] or "never held",
    ]
    star = " ★" if way["chosen"] else ""
    rest = way["label"].removeprefix(way["hardware"]).removeprefix(", ")
    head = f'<th scope="row">{escape(way["hardware"])}{star}<br><small>{escape(rest)}</small></th>'
    return f"<tr>{head}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _reasons(lost: Sequence[Mapping[str, Any]]) -> list[str]:
    found = Counter(way["limit"] or "settings" for way in lost)
    rows = []
    for limit, number in found.most_common():
        one = next(way for way in lost if (way["limit"] or "settings") == limit)
        example = f"{one['label']}: {one['why_not']}"
        rows.append(f'<tr><th scope="row">{escape(limit)}</th><td>{number}</td><td class="words">{escape(example)}</td></tr>')
    return rows


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
