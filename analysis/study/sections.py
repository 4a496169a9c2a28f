"""The sections of the study page between the verdict and the findings: titles, captions, choices; the script fills them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from analysis.page import document
from analysis.study.samples import CLOUD, QUANTILES, STRETCH
from analysis.study.trust import CARE, TRUST

CHOICES = {"axis": "Along", "metric": "Metric", "latency": "Latency", "cell": "Cell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A place for a figure. view: the SQL view or table that it draws, named in the caption. caption: what it shows, how to read it."""

    name: str
    title: str
    view: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySection:
    """A section. choices: what can be chosen in it, of CHOICES. table: the place of a table that the script makes, in words its view."""

    name: str
    title: str
    note: str
    figures: Sequence[Figure] = ()
    choices: Sequence[str] = ()
    html: str = ""


def _legend(colours: Mapping[str, str]) -> str:
    """What each colour of the style sheet stands for."""
    swatches = "".join(f'<span style="--swatch: var(--{colour})">{escape(text)}</span>' for text, colour in colours.items())
    return f'<p class="legend">{swatches}</p>'


def _table(place: str, view: str, words: str = "") -> str:
    return f'<div id="{place}"></div><p class="note">{words} SQL: <code>{escape(view)}</code>.</p>'


OPENING = Figure(
    name="opening",
    title="How far each simulator is off",
    view="cell_fidelity",
    caption="Signed error of the medians: left of the line the simulator says less than was measured. A dot per cell, a bar at "
    "their median, whose value stands to the right; grey: what the engine differs from itself by. The nearest on top; behind a name: "
    "on how many of the cells, where not on all.",
)
PARTS = (
    StudySection(
        name="scores",
        title="Simulators and metrics",
        note="Over all cells that the filters let through. The tint says what 9 of 10 cells stay within, confidence intervals included.",
        html='<div id="scorecard"></div>'
        + _legend(
            {
                f"within {TRUST * 100:g} %": "near",
                f"within {CARE * 100:g} %": "off",
                f"unproven: errors within {CARE * 100:g} %, their intervals not": "unproven",
                "beyond": "far",
            }
        )
        + '<p class="note">Unproven, too: where the interval is unknown (too few requests for the load), or requests were refused or lost. '
        "Simulators are compared with each other on cells that all of them cover. "
        "Below saturation an engine puts out what is offered, and so does any simulator: its throughput is put to the "
        "test where cells are saturated (▲). SQL: <code>cell_fidelity</code>, <code>coverage</code>.</p>",
    ),
    StudySection(
        name="axis",
        title="Along an axis",
        note="How the error changes with the GPU, the model, the engine's version, the loop or the workload.",
        choices=("axis", "metric"),
        html='<div id="axis-table"></div>'
        + _legend({f"within {TRUST * 100:g} %": "near", f"within {CARE * 100:g} %": "off", "beyond": "far"})
        + '<p class="note">Under each error: of how many cells. SQL: <code>cell_fidelity</code>, <code>cells</code>.</p>',
    ),
    StudySection(
        name="heat",
        title="Cell by cell",
        note="Each square is one simulator in one cell. Choose one to see it below: its distributions, its requests, its causes.",
        choices=("metric",),
        figures=(
            Figure(
                name="heat",
                title="Signed error, per cent",
                view="cell_fidelity",
                caption="Blue: the simulator says less than was measured; orange: more; as deep as can be at half and at twice. "
                "× : the cell has no valid run; · : nothing to compare.",
            ),
        ),
        html=document.disclosure("The same as a table, with intervals", "", '<div id="cells-table"></div>'),
    ),
    StudySection(
        name="knees",
        title="Where latency takes off",
        note="Latency against throughput as the load rises: the thick line is measured. A simulator whose line bends further right "
        "promises capacity that is not there.",
        choices=("latency",),
        figures=(
            Figure(
                name="knees",
                title="Latency-throughput knees",
                view="knees",
                caption="Medians over the valid repeats; a mark per cell, in order of load.",
            ),
        ),
    ),
    StudySection(
        name="goodput",
        title="Goodput against rate",
        note="Requests per second that meet the SLO. On the dotted line every request does.",
        figures=(
            Figure(
                name="goodput",
                title="Goodput",
                view="knees",
                caption="The same cells; the rate is what was offered in the measurement window.",
            ),
        ),
    ),
    StudySection(
        name="distributions",
        title="Distributions as load rises",
        note="A simulator whose line lies left of the measured one is too optimistic.",
        choices=("cell",),
        figures=tuple(
            Figure(
                name=f"cdf-{metric}",
                title=f"{metric.upper()} of ",
                view="latency_cdf",
                caption=f"Share of requests with a {metric.upper()} up to x milliseconds (log scale), one run per cell, "
                f"drawn at {QUANTILES} quantiles at most.",
            )
            for metric in ("ttft", "tpot")
        ),
    ),
    StudySection(
        name="requests",
        title="Request by request",
        note="A simulator can have the right distribution and still be wrong about every request. On the line it is right, above too slow.",
        choices=("cell", "latency"),
        figures=(
            Figure(
                name="parity",
                title="Measured against simulated, ",
                view="parity",
                caption=f"One mark per request, log scales; at most {CLOUD} of a run's requests, evenly spaced in order of arrival. "
                "Beside each name: by how much half of them are off at least.",
            ),
        ),
    ),
    StudySection(
        name="causes",
        title="Why it errs",
        note="From what the simulator says to what was measured, cause by cause. The parts add up to the whole; what cannot be told apart "
        "is called unexplained.",
        choices=("cell", "latency"),
        figures=(
            Figure(
                name="waterfall",
                title="Error attribution, ",
                view="cell_attribution",
                caption="Mean latency in milliseconds. Orange adds to what the simulator says, blue takes away.",
            ),
        ),
    ),
    StudySection(
        name="timeline",
        title="One stretch, request by request",
        note="The requests that waited longest together, measured beside simulated.",
        choices=("cell",),
        figures=(
            Figure(
                name="gantt",
                title="Queued, prefill, decode, ",
                view="phases",
                caption=f"{STRETCH} consecutive requests of one run. Hatched: queued or prefill, where the engine does not say when it "
                "scheduled a request. Arrival to first token to last token, as the client saw it.",
            ),
        ),
        html=_legend({"queued": "queued", "prefill": "prefill", "queued or prefill": "waiting", "decode": "decode"}),
    ),
    StudySection(
        name="rankings",
        title="Would it choose the right one?",
        note="A simulator can be far off and still put configurations in the right order.",
        html=_table("rankings-table", "rankings"),
    ),
    StudySection(
        name="runs",
        title="Every run: validity and provenance",
        note="Each name leads to the run's own folder, where its requests and tokens are Parquet files.",
        html='<p class="choose"><label><input type="checkbox" id="only-invalid"> only what is INVALID or breaks Little\'s law</label></p>'
        + _table("runs-table", "runs; littles_law"),
    ),
)


def sections() -> str:
    """All of them as HTML."""
    return "\n".join(_section(part) for part in PARTS)


def opening() -> str:
    """The figure that the page opens with."""
    return _figure(OPENING)


def contents() -> str:
    """Links to the sections."""
    known = [("verdict", "Verdict"), *((part.name, part.title) for part in PARTS), ("findings", "Findings")]
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in known)
    return f'<nav aria-label="Contents"><ul class="contents">{links}</ul></nav>'


def _section(part: StudySection) -> str:
    choices = "".join(
        f'<label>{CHOICES[choice]} <select data-choose="{choice}" aria-label="{CHOICES[choice]} of: {escape(part.title)}"></select></label>'
        for choice in part.choices
    )
    chosen = f'<div class="choose">{choices}</div>' if choices else ""
    figures = "".join(_figure(figure) for figure in part.figures)
    grid = f'<div class="figures">{figures}</div>' if figures else ""
    head = f'<section id="{part.name}"><h2>{escape(part.title)}</h2><p class="note">{escape(part.note)}</p>'
    return f"{head}{chosen}{grid}{part.html}</section>"


def _figure(figure: Figure) -> str:
    place = "scenario" if figure.name.startswith("cdf-") else "cell"
    title = escape(figure.title) + (f'<span class="{place}-name"></span>' if figure.title.endswith(" ") else "")
    caption = escape(figure.caption)
    return (
        f'<figure><h3>{title}</h3><div class="plot" role="img" aria-label="{escape(figure.title)}. {caption}" '
        f'data-figure="{figure.name}"></div><figcaption>{caption} SQL: <code>{escape(figure.view)}</code>.</figcaption></figure>'
    )
