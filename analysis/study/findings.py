"""What a study found, computed: a sentence each with the query that shows it. docs/findings.md, where there is one, follows as prose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from analysis import names, page
from analysis.data import TRACKS, Key
from analysis.study.data import Study
from analysis.study.trust import records

NOTES = Path(__file__).resolve().parents[2] / "docs" / "findings.md"
HEADLINE: Key = ("ttft", "p50")
AGREES = 0.02  # regret up to which a choice counts as right


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A statement, where it takes more than a sentence with a list, and the SQL that gives the numbers in it."""

    text: str
    query: str
    items: tuple[str, ...] = ()


def findings(study: Study) -> list[Finding]:
    """All that can be said of this study, at most one per question."""
    return [*_calibration(study), *_sides(study), *_causes(study), *_choices(study), *_littles_law(study), *_invalid(study)]


def as_html(study: Study, notes: Path = NOTES) -> str:
    """The findings, then the notes in Markdown as people wrote them (raw HTML in them is shown, not obeyed)."""
    parts = [
        f'<p class="finding">{escape(finding.text)}</p>{_list(finding.items)}'
        f"{page.disclosure('The query', '', f'<pre>{escape(finding.query)}</pre>')}"
        for finding in findings(study)
    ]
    if not parts:
        parts.append('<p class="empty">Nothing stands out: it takes a simulated run beside a valid measured one.</p>')
    if notes.is_file():
        prose = MarkdownIt("commonmark", {"html": False}).enable("table").render(notes.read_text(encoding="utf-8"))
        prose = prose.replace("<h2>", "<h3>").replace("</h2>", "</h3>").replace("<h1>", "<h3>").replace("</h1>", "</h3>")
        prose = prose.replace("<table>", '<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>').replace(
            "</table>", "</table></div>"
        )
        parts.append(page.disclosure("Notes on single findings", notes.name, f'<div class="prose">{prose}</div>'))
    return "\n".join(parts)


def _list(items: Sequence[str]) -> str:
    return f'<ul class="items">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>' if items else ""


def _calibration(study: Study) -> Iterator[Finding]:
    """What each track's knowledge of the engine is worth."""
    typical = {record.simulator: record.typical for record in records(study, HEADLINE)}
    items = []
    for system in dict.fromkeys(system for system, _ in study.simulators):
        known = [(track, typical[system, track]) for track in TRACKS if (system, track) in typical]
        if len(known) > 1:
            items.append(f"{names.system(system)}: {', '.join(f'{names.percent(value, sign=False)} {track}' for track, value in known)}")
    if items:
        yield Finding(
            text=f"What it is worth to know the engine: the typical error of {names.metric(*HEADLINE)} from track to track.",
            items=tuple(items),
            query="select system, track, cells, abs_error, worst from study_scores\nwhere metric = 'ttft' and stat = 'p50'"
            + _of(study)
            + ";",
        )


def _sides(study: Study) -> Iterator[Finding]:
    rows = [row for row in study.coverage if row["same_side"] is not None and row["same_side"] < row["scored"]]
    wrong = sorted(rows, key=lambda row: row["same_side"] / row["scored"])
    if wrong:
        yield Finding(
            text="On the wrong side of the knee, where latencies answer another question than the one asked.",
            items=tuple(
                f"{names.system(row['system'], row['track'])}: {row['scored'] - row['same_side']} of {row['scored']} cells" for row in wrong
            ),
            query="select system, track, scored, same_side from coverage where same_side < scored" + _of(study) + ";",
        )


def _causes(study: Study) -> Iterator[Finding]:
    """The part with the largest share of all that was moved, per simulator."""
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


def _choices(study: Study) -> Iterator[Finding]:
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


def _littles_law(study: Study) -> Iterator[Finding]:
    checked = [row["ok"] for row in study.littles_law.values() if row["ok"] is not None]
    if checked:
        yield Finding(
            text=f"Little's law holds in {sum(checked)} of the {len(checked)} runs that it can be checked in.",
            query="select count(*) filter (ok), count(*) from littles_law join runs using (run_id) where ok is not null" + _of(study) + ";",
        )


def _invalid(study: Study) -> Iterator[Finding]:
    invalid = [run for run in study.runs.values() if run.kind == "measured" and not run.valid]
    if invalid:
        reasons = "; ".join(dict.fromkeys(str(run.invalid_reason) for run in invalid))
        measured = sum(run.kind == "measured" for run in study.runs.values())
        yield Finding(
            text=f"{len(invalid)} of {measured} measured runs are INVALID and in no score: {reasons}.",
            query="select run_id, cell, invalid_reason from runs where kind = 'measured' and not valid" + _of(study) + ";",
        )


def _of(study: Study) -> str:
    return f" and study = '{study.name}'" if study.name is not None else ""
