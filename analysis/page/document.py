"""The page's pieces: values in, HTML out. page/ holds its template, style and script. Everything from outside is escaped here."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analysis import names
from analysis.data import LOST, Comparison, Key, RunRow, Score, by_simulator
from analysis.page.modelled import not_modelled
from analysis.plots import Series
from analysis.tables import NOT_VALID

FOLDER = Path(__file__).parent
DEFINITIONS = (
    "TTFT and E2E count from the time at which the trace says that a request arrives, so that a late client or a queue hides nothing. "
    "TPOT is the mean time per output token after the first. Failed requests have no latency and are never good. Error is simulated "
    "over measured, less one."
)
NEAR, OFF = 0.05, 0.20  # |error| up to which a cell is tinted near, and off; far beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure with what a reader needs to know about it. caption: what it shows and how to read it; also its text for screen readers."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Figures under one heading."""

    title: str
    note: str
    drawings: Sequence[Drawing]


def page(
    *,
    title: str,
    verdict: str,
    valid: bool,
    notice: str | None,
    context: str,
    scorecard: str,
    sections: Sequence[Section],
    key: str,
    details: str,
    footer: str = DEFINITIONS,
) -> str:
    """The whole self-contained document. notice: what to know before any figure, or None; context, scorecard and details are HTML."""
    drawings = [drawing for section in sections for drawing in section.drawings]
    return Template((FOLDER / "report.html").read_text()).substitute(
        head=head(title),
        verdict=_unbroken(verdict, "%"),
        invalid="" if valid else ' class="invalid"',
        notice="" if notice is None else f'<p class="notice" role="note">{_unbroken(notice, "%", "ms")}</p>\n',
        context=context,
        scorecard=scorecard,
        figures="\n".join(_section(section, key) for section in sections if section.drawings),
        details=details,
        footer=footer,
        plotly=inline_script(get_plotlyjs()),
        data="\n".join(_json_block(drawing) for drawing in drawings),
        theme=(FOLDER / "theme.js").read_text(),
        script=(FOLDER / "report.js").read_text(),
    )


def _unbroken(text: str, *units: str) -> str:
    """Text as HTML that keeps a number and these units on one line."""
    shown = escape(text)
    for unit in units:
        shown = shown.replace(f" {unit}", f"&nbsp;{unit}")
    return shown


def head(title: str, more_css: str = "") -> str:
    """The document up to its body: what all pages have in common, the style sheet included."""
    css = (FOLDER / "report.css").read_text() + more_css
    return Template((FOLDER / "head.html").read_text()).substitute(title=escape(title), css=css)


def inline_script(code: str) -> str:
    """Code that may stand in a script element."""
    return code.replace("</script", "<\\/script")


def write(out: Path, text: str) -> None:
    """Replace the file in one step; a full disk leaves the old one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)


def scorecard(comparison: Comparison, keys: Sequence[Key], confidence: float, unavailable: Mapping[str, str]) -> str:
    """The first table: measured, then each simulator and track with its errors, its coverage beside them, and its wall seconds.

    unavailable: 'system:track' to the reason; a row each, without numbers.
    """
    measured = comparison.measured
    values = comparison.metrics[measured.run_id]
    heads = [*(names.metric_with_unit(*key) for key in keys), "Wall time (s)", "Not modelled"]
    shown = [f"<td><strong>{names.number(names.shown_value(key[0], values.get(key)))}</strong></td>" for key in keys]
    first = _row(
        f"{escape(names.system(measured.system))} <small>measured{_failed(comparison, measured)}</small>",
        [*shown, _wall(measured), "<td></td>"],
        "measured",
    )
    by_name = by_simulator(comparison.scores)
    body = [
        _row(
            f"{escape(names.system(run.system))} <small>{escape(str(run.track))}{_failed(comparison, run)}</small>",
            [
                *(_score_cell(by_name.get(name, {}).get(key), valid=measured.valid, lost=comparison.lost.get(name, 0.0)) for key in keys),
                _wall(run),
                f'<td class="words">{escape(not_modelled(run))}</td>',
            ],
        )
        for run in comparison.simulated
        for name in [(run.system, str(run.track))]
    ]
    body += [_unavailable(name, reason, len(heads)) for name, reason in unavailable.items()]
    floor = [score.noise for score in comparison.scores if score.noise is not None]
    multiple = ", and the error as a multiple of the noise floor (the spread between repeats)" if floor else ""
    caption = f"Signed error in per cent with its {confidence * 100:g} % interval, under it the simulated value{multiple}."
    if not body:
        caption = "What was measured."
    if not measured.valid:
        caption = "The measured run is INVALID: its numbers are shown to find out why, and no score against it counts."
    tints = ((f"within {NEAR * 100:g} %", "near"), (f"within {OFF * 100:g} %", "off"), ("beyond", "far"))
    legend = "".join(f'<span style="--swatch: var(--{name})">{text}</span>' for text, name in tints)
    legend = f'<p class="legend">{legend}</p>' if body and measured.valid else ""
    return table(["Run", *heads], [first, *body], caption, "scorecard") + legend


def _unavailable(name: str, reason: str, columns: int) -> str:
    system, _, track = name.partition(":")
    return _row(
        f"{escape(names.system(system))} <small>{escape(track)}</small>",
        [f'<td class="words" colspan="{columns}">not available: {escape(reason)}</td>'],
    )


def table(heads: Sequence[str], body: Iterable[str], caption: str, kind: str) -> str:
    """A table that scrolls sideways by itself, by keyboard too. heads are escaped; body holds finished rows."""
    head = "".join(f'<th scope="col">{escape(text).replace(" (", "<br><small>(")}</th>' for text in heads)
    rows, label = "\n".join(body), escape(caption)
    inner = f"<caption><span>{label}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table class="{kind}">{inner}</table></div>\n'


def text_table(frame: Any, caption: str) -> str:
    """A DataFrame of text as a table; its first column names the rows."""
    body = [_row(escape(str(first)), [f"<td>{escape(str(cell))}</td>" for cell in cells]) for first, *cells in frame.to_numpy().tolist()]
    return table([str(column) for column in frame.columns], body, caption, "plain")


def key(series: Sequence[Series]) -> str:
    """Which line is which run: a button each, that shows and hides it in all figures."""
    items = [
        f'<li><button type="button" aria-pressed="true" data-series="{escape(one.name)}"><svg width="30" height="10" aria-hidden="true">'
        f'<line x1="1" y1="5" x2="29" y2="5" stroke="{one.color}" stroke-width="{one.line["width"]}" '
        f'stroke-dasharray="{DASHARRAYS[one.line["dash"]]}"/></svg>{escape(one.name)}</button></li>'
        for one in series
    ]
    return f'<ul class="key" aria-label="Runs; press to hide or show">{"".join(items)}</ul>'


def disclosure(summary: str, note: str, content: str) -> str:
    """A part that opens on demand. content is finished HTML."""
    return f'<details><summary>{escape(summary)}<span class="note">{escape(note)}</span></summary><div>{content}</div></details>'


def facts(values: Mapping[str, Any], caption: str) -> str:
    """Nested settings as one flat table: 'engine.max_num_seqs' and its value."""
    body = [_row(escape(name), [f"<td>{escape(value)}</td>"]) for name, value in flat(values)]
    return table(["Setting", "Value"], body, caption, "facts") if body else ""


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """The leaves of nested mappings by their dotted names, as text; an unknown is a dash."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None and value != "":
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def folder_of(run: RunRow, page_folder: Path) -> str:
    """The address of the run's folder, relative to the page's; in object storage its own."""
    return run.path if "://" in run.path else Path(os.path.relpath(Path(run.path).resolve(), page_folder.resolve())).as_posix()


def folder_link(run: RunRow, page_folder: Path) -> str:
    """A link to the run's folder."""
    target = folder_of(run, page_folder)
    return f'<p>Run folder: <a href="{escape(target)}/">{escape(target)}</a></p>'


DASHARRAYS = {"solid": "none", "dot": "2 4", "dash": "8 5", "dashdot": "8 4 2 4"}


def _score_cell(score: Score | None, *, valid: bool, lost: float) -> str:
    """lost: the share of the requests that the simulator refused or lost; with more than LOST of them no error counts as near."""
    if not valid:
        return f"<td><small>{NOT_VALID}</small></td>"
    if score is None or score.error is None:
        value = names.shown_value(score.metric, score.simulated) if score else None
        return f"<td><strong>–</strong><small>{names.number(value)}</small></td>"
    size = abs(score.error)
    tint = "lost" if lost > LOST else "near" if size <= NEAR else "off" if size <= OFF else "far"
    lines = [
        names.interval(score.error_low, score.error_high) or names.NO_INTERVAL,
        names.number(names.shown_value(score.metric, score.simulated)),
    ]
    if score.noise:
        lines.append(f"{size / score.noise:.1f} × noise")
    small = "".join(f"<small>{escape(line)}</small>" for line in lines if line)
    return f'<td class="{tint}"><strong>{names.percent(score.error)}</strong>{small}</td>'


def _failed(comparison: Comparison, run: RunRow) -> str:
    """How many of a run's requests failed: its latencies are those of the others."""
    failed = int(comparison.requests.loc[comparison.requests["run_id"] == run.run_id, "failed"].sum())
    return f"<br>{failed} failed" if failed else ""


def _wall(run: RunRow) -> str:
    return f"<td>{names.number(run.wall_s)}</td>"


def _row(head: str, cells: Iterable[str], kind: str = "") -> str:
    return f'<tr{f" class={kind}" if kind else ""}><th scope="row">{head}</th>{"".join(cells)}</tr>'


def _section(section: Section, key: str) -> str:
    figures = "\n".join(_figure(drawing) for drawing in section.drawings)
    note = f'<p class="note">{escape(section.note)}</p>'
    return f'<section><h2>{escape(section.title)}</h2>{note}{key}<div class="figures">{figures}</div></section>'


def _figure(drawing: Drawing) -> str:
    height = drawing.figure.layout.height
    return (
        f"<figure{' class=wide' if drawing.wide else ''}><h3>{escape(drawing.title)}</h3>"
        f'<div class="plot" role="img" aria-label="{escape(drawing.title)}. {escape(drawing.caption)}" style="height: {height}px" '
        f'data-figure="figure-{drawing.name}"></div><figcaption>{escape(drawing.caption)}</figcaption></figure>'
    )


def _json_block(drawing: Drawing) -> str:
    return f'<script type="application/json" id="figure-{drawing.name}">{drawing.figure.to_json()}</script>'  # to_json escapes < > /
