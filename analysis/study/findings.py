"""What a study found, computed: a sentence each with the query that shows it. docs/findings.md, where there is one, follows as prose."""

from collections.abc import Iterator
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
    """A statement and the SQL that gives the numbers in it."""

    text: str
    query: str


def findings(study: Study) -> list[Finding]:
    """All that can be said of this study, at most one per question."""
    return [*_calibration(study), *_sides(study), *_causes(study), *_choices(study), *_littles_law(study), *_invalid(study)]


def as_html(study: Study, notes: Path = NOTES) -> str:
    """The findings, then the notes in Markdown as people wrote them (raw HTML in them is shown, not obeyed)."""
    parts = [
        f'<p class="finding">{escape(finding.text)}</p>{page.disclosure("The query", "", f"<pre>{escape(finding.query)}</pre>")}'
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


def _calibration(study: Study) -> Iterator[Finding]:
    """What each track's knowledge of the engine is worth."""
    typical = {record.simulator: record.typical for record in records(study, HEADLINE)}
    for system in dict.fromkeys(system for system, _ in study.simulators):
        known = [(track, typical[system, track]) for track in TRACKS if (system, track) in typical]
        if len(known) > 1:
            steps = ", ".join(f"{names.percent(value, sign=False)} {track}" for track, value in known)
            yield Finding(
                text=f"{names.system(system)}: the typical error of {names.metric(*HEADLINE)} is {steps}.",
                query="select system, track, cells, abs_error, worst from study_scores\n"
                f"where metric = 'ttft' and stat = 'p50' and system = '{system}'" + _of(study) + ";",
            )


def _sides(study: Study) -> Iterator[Finding]:
    rows = [row for row in study.coverage if row["same_side"] is not None and row["same_side"] < row["scored"]]
    wrong = [(names.system(row["system"], row["track"]), row["scored"] - row["same_side"], row["scored"]) for row in rows]
    if wrong:
        said = ", ".join(f"{name} in {n} of {of}" for name, n, of in sorted(wrong, key=lambda one: -one[1] / one[2]))
        yield Finding(
            text=f"On the wrong side of the knee: {said} cells. There, its latencies answer another question than the one asked.",
            query="select system, track, scored, same_side from coverage where same_side < scored" + _of(study) + ";",
        )


def _causes(study: Study) -> Iterator[Finding]:
    """The part with the largest share of all that was moved, per simulator."""
    rows = study.attribution[study.attribution["metric"].eq("ttft")]
    for (system, track), mine in rows.groupby(["system", "track"], sort=True):
        sizes = mine.assign(size=mine["value"].abs()).groupby("part")["size"].sum()
        if sizes.sum() > 0:
            part, share = str(sizes.idxmax()), float(sizes.max() / sizes.sum())
            yield Finding(
                text=f"{names.system(str(system), str(track))}: most of what stands between its mean TTFT and the measured one is "
                f"{part.replace('_', ' ')} ({names.percent(share, sign=False)} of all that the parts move, over "
                f"{mine['cell'].nunique()} cells).",
                query="select part, sum(abs(value)) from cell_attribution\n"
                f"where metric = 'ttft' and system = '{system}' and track = '{track}'" + _of(study) + " group by part;",
            )


def _choices(study: Study) -> Iterator[Finding]:
    regrets: dict[str, list[float]] = {}
    for row in study.rankings:
        if row["regret"] is not None:
            regrets.setdefault(names.system(row["system"], row["track"]), []).append(row["regret"])
    said = []
    for name, costs in sorted(regrets.items()):
        wrong = sum(cost > AGREES for cost in costs)
        said.append(f"{name} {wrong} of {len(costs)}" + (f" (costing up to {names.percent(max(costs), sign=False)})" if wrong else ""))
    if said:
        yield Finding(
            text=f"Choices that cost more than {AGREES * 100:g} % when the simulator makes them: {', '.join(said)}.",
            query="select system, track, axis, setting, metric, measured_best, simulated_best, regret from rankings\n"
            f"where regret > {AGREES}" + _of(study) + ";",
        )


def _littles_law(study: Study) -> Iterator[Finding]:
    checked = [row["ok"] for row in study.littles_law.values() if row["ok"] is not None]
    if checked:
        yield Finding(
            text=f"Little's law holds in {sum(checked)} of the {len(checked)} runs that it can be checked in.",
            query="select run_id, mean_in_system, expected_in_system, ratio from littles_law where not ok;",
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
