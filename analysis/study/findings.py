"""What a study found, computed: a sentence each with the query that shows it. docs/findings.md, where there is one, follows as prose.

Each section of that page leads to a page with its evidence (docs/findings/NAME.md), which opens below it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from analysis import names
from analysis.data import LOST, TRACKS, Key
from analysis.page import document
from analysis.study.data import StudyData
from results.project.folder import ROOT

NOTES = ROOT / "docs" / "findings.md"
HEADLINE: Key = ("ttft", "p50")
AGREES = 0.02  # regret up to which a choice counts as right
SECTION = re.compile(r"^(?=## )", re.MULTILINE)
EVIDENCE = re.compile(r"## .*\]\((?P<page>[^()\s:]+\.md)\)")  # a section's title that links to another page of these notes
NEAR = re.compile(
    r"\[([^\[\]]+)\]\((?!\w+:)[^()]*\)"
)  # a link to another page of the docs: the study's page is one file, so its text stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A statement, with a list where one sentence is not enough, and the SQL that gives the numbers in it."""

    text: str
    query: str
    items: tuple[str, ...] = ()


def findings(study: StudyData) -> list[Finding]:
    """All that can be said of this study, at most one per question."""
    return [*_calibration(study), *_sides(study), *_causes(study), *_choices(study), *_littles_law(study), *_invalid(study)]


def as_html(study: StudyData, notes: Path = NOTES) -> str:
    """The findings, then the notes in Markdown as people wrote them (raw HTML in them is shown, not obeyed)."""
    parts = [
        f'<p class="finding">{escape(finding.text)}</p>{_list(finding.items)}'
        f"{document.disclosure('The query', '', f'<pre>{escape(finding.query)}</pre>')}"
        for finding in findings(study)
    ]
    if not parts:
        parts.append('<p class="empty">Nothing stands out: it takes a simulated run beside a valid measured one.</p>')
    if notes.is_file():
        parts.append(document.disclosure("Notes on single findings", notes.name, f'<div class="prose">{_notes(notes)}</div>'))
    return "\n".join(parts)


def _notes(notes: Path) -> str:
    """The notes, below each section the page of evidence that its title links to, where there is one."""
    parts = []
    for section in SECTION.split(notes.read_text(encoding="utf-8")):
        parts.append(_prose(section))
        linked = EVIDENCE.match(section)
        page = notes.parent / linked["page"] if linked else None
        if page is not None and page.is_file():
            parts.append(document.disclosure("The evidence", page.name, _prose(page.read_text(encoding="utf-8"))))
    return "".join(parts)


def _prose(text: str) -> str:
    """Markdown as HTML below the page's own headings, wide tables in a box that scrolls."""
    prose = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(NEAR.sub(r"\1", text)))
    prose = re.sub(r"<(/?)h[12]>", r"<\1h3>", prose)
    return prose.replace("<table>", '<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>').replace(
        "</table>", "</table></div>"
    )


def _list(items: Sequence[str]) -> str:
    return f'<ul class="items">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>' if items else ""


def _calibration(study: StudyData) -> Iterator[Finding]:
    """How much each track's knowledge of the engine lowers the error, over the cells that all tracks of a simulator cover."""
    scored = study.scored(HEADLINE)
    items = []
    for system, mine in scored[scored["failed"].le(LOST)].groupby("system", sort=True):
        sizes = mine.assign(size=mine["error"].abs()).pivot(index="cell", columns="track", values="size").dropna()
        if len(sizes) and len(sizes.columns) > 1:
            typical = [f"{names.percent(sizes[track].median(), sign=False)} {track}" for track in TRACKS if track in sizes]
            where = f" (on {len(sizes)} of {len(study.valid_cells)} cells)" if len(sizes) < len(study.valid_cells) else ""
            items.append(f"{names.system(str(system))}: {', '.join(typical)}{where}")
    if items:
        yield Finding(
            text=f"What it is worth to know the engine: the typical error of {names.metric(*HEADLINE)} from track to track, over the same "
            "cells.",
            items=tuple(items),
            query="with scored as (\n"
            "    select *, count(*) over (partition by system, study, cell) as tracks from cell_fidelity\n"
            f"    where metric = 'ttft' and stat = 'p50' and error is not null and failed <= {LOST}{_of(study)}\n"
            ")\n"
            "select system, track, count(*) as cells, median(abs(error)) as typical from scored\n"
            "join (select system, count(distinct track) as tracks from scored group by system) using (system, tracks)\n"
            "group by system, track;",
        )


def _sides(study: StudyData) -> Iterator[Finding]:
    rows = [row for row in study.coverage if row["side_known"] and row["same_side"] < row["side_known"]]
    wrong = sorted(rows, key=lambda row: (row["same_side"] / row["side_known"], row["system"], row["track"]))
    if wrong:
        yield Finding(
            text="On the wrong side of the knee, where latencies answer another question than the one asked.",
            items=tuple(
                f"{names.system(row['system'], row['track'])}: {row['side_known'] - row['same_side']} of {row['side_known']} cells"
                for row in wrong
            ),
            query="select system, track, sum(side_known) as cells, sum(same_side) as same_side from coverage\n"
            "where side_known > 0" + _of(study) + " group by system, track having sum(same_side) < sum(side_known);",
        )


def _causes(study: StudyData) -> Iterator[Finding]:
    """The part with the largest share of the seconds in all waterfalls, per simulator."""
    rows = study.attribution[study.attribution["metric"].eq("ttft")]
    items = []
    for (system, track), mine in rows.groupby(["system", "track"], sort=True):
        sizes = mine.assign(size=mine["value"].abs()).groupby("part")["size"].sum()
        if sizes.sum() > 0:
            part, share = str(sizes.idxmax()), float(sizes.max() / sizes.sum())
            name = names.system(str(system), str(track))
            items.append(f"{name}: {part.replace('_', ' ')}, {names.percent(share, sign=False)}")
    if items:
        yield Finding(
            text="The largest cause between a simulator's mean TTFT and the measured one, as a share of all that the causes move.",
            items=tuple(items),
            query="select system, track, part, sum(abs(value)) from cell_attribution\n"
            "where metric = 'ttft'" + _of(study) + " group by system, track, part;",
        )


def _choices(study: StudyData) -> Iterator[Finding]:
    regrets: dict[str, list[float]] = {}
    for row in study.rankings:
        if row["regret"] is not None:
            regrets.setdefault(names.system(row["system"], row["track"]), []).append(row["regret"])
    items = []
    for name, costs in sorted(regrets.items()):
        wrong = sum(cost > AGREES for cost in costs)
        items.append(f"{name}: {wrong} of {len(costs)}" + (f", up to {names.percent(max(costs), sign=False)}" if wrong else ""))
    if items:
        yield Finding(
            text=f"Choices of a configuration that cost more than {AGREES * 100:g} % when the simulator makes them.",
            items=tuple(items),
            query=f"select system, track, count(*) filter (regret > {AGREES}), count(*), max(regret) from rankings\n"
            "where regret is not null" + _of(study) + " group by system, track;",
        )


def _littles_law(study: StudyData) -> Iterator[Finding]:
    checked = [row["ok"] for row in study.littles_law.values() if row["ok"] is not None]
    if checked:
        yield Finding(
            text=f"Little's law holds in {sum(checked)} of the {len(checked)} runs that it can be checked in.",
            query="select count(*) filter (ok), count(*) from littles_law join runs using (run_id) where ok is not null" + _of(study) + ";",
        )


def _invalid(study: StudyData) -> Iterator[Finding]:
    invalid = [run for run in study.runs.values() if run.kind == "measured" and not run.valid]
    if invalid:
        reasons = "; ".join(dict.fromkeys(str(run.invalid_reason) for run in invalid))
        measured = sum(run.kind == "measured" for run in study.runs.values())
        yield Finding(
            text=f"{len(invalid)} of {measured} measured runs are INVALID and in no score: {reasons}.",
            query="select run_id, cell, invalid_reason from runs where kind = 'measured' and not valid" + _of(study) + ";",
        )


def _of(study: StudyData) -> str:
    return f" and study = '{study.name}'" if study.name is not None else ""
