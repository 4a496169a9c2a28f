"""The report on a study: score the database, say the verdict, write one HTML page. Read `StudyReport.write` first.

The verdict and the findings are computed here, in Python, and stand in the page as text; the figures and the tables that filters act on
are drawn by page/study/*.js from the numbers that embed.py puts in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from analysis import names
from analysis.data import open_database
from analysis.page import document
from analysis.page.summary import StudySummary
from analysis.scoring.fidelity import score
from analysis.stats import Bootstrap
from analysis.study import embed, findings, missing, opening, sections, words
from analysis.study.data import StudyData, check_name, read_study
from analysis.study.words import Answer
from results.project.missing import MissingSimulation
from results.project.progress import Progress

FOLDER = document.FOLDER / "study"
SCRIPTS = ("state.js", "kit.js", "opening.js", "overview.js", "cell.js", "tables.js", "axes.js", "main.js")
GRADES = {"trust": "trust", "care": "with care", "unproven": "unproven", "not": "do not trust", "unknown": "unknown"}


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """Scores a database and writes a page about a study. database: the DuckDB file. out: the page to write."""

    database: Path | str
    out: Path | str
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def write(
        self,
        name: str | None = None,
        *,
        refusals: Sequence[MissingSimulation] = (),
        once: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> StudySummary:
        """Score all, report on one study (None: every measured run) and return what the page says.

        refusals: what simulators did not give. once: those that took the first repeat of each cell only. progress: of the scoring.

        Raises results.database.DatabaseError when there is no database, AnalysisError when it lacks the study. The page is replaced when
        it is whole.
        """
        with open_database(Path(self.database)) as connection:
            check_name(connection, Path(self.database), name)  # checked before scoring, which may take minutes
        refused = score(Path(self.database), self.bootstrap, progress)
        return self.write_scored(name, refused=len(refused), refusals=refusals, once=once)

    def write_scored(
        self, name: str | None = None, *, refused: int = 0, refusals: Sequence[MissingSimulation] = (), once: Sequence[str] = ()
    ) -> StudySummary:
        """The same for a database that has been scored already. refused: how many simulated runs were refused."""
        database, out = Path(self.database), Path(self.out)
        with open_database(database) as connection:
            study = read_study(connection, database, name)
            data = embed.to_json(embed.payload(study, connection, out.parent))
        document.write(out, _page(study, data, refused, missing.as_html(refusals, once)))
        return StudySummary(verdict=str(opening.opening(study)), path=out)


def _page(study: StudyData, data: str, refused: int, missing: str) -> str:
    first, verdict = opening.opening(study), words.verdict(study)
    return Template((FOLDER / "study.html").read_text()).substitute(
        head=document.head(f"{study.name or 'All runs'} · Plumbline", (FOLDER / "study.css").read_text()),
        headline=_tied(first.headline),
        sentences="".join(f"<p>{_tied(sentence)}</p>" for sentence in first.others),
        long="".join(f"<li>{_tied(reason)}</li>" for reason in (verdict.headline, *verdict.reasons)),
        invalid="" if len(study.valid_cells) else ' class="invalid"',
        context=_context(study, refused),
        opening=sections.opening(),
        contents=sections.contents(),
        verdict=_answers(words.answers(study)) + f'<p class="note">{escape(words.RULE)}</p>',
        sections=sections.sections(),
        missing=missing,
        findings=findings.as_html(study),
        footer=document.DEFINITIONS,
        data=data,
        plotly=document.inline_script(get_plotlyjs()),
        theme=(document.FOLDER / "theme.js").read_text(),
        script='"use strict";\n' + "\n".join((FOLDER / name).read_text() for name in SCRIPTS),
    )


def _tied(sentence: str) -> str:
    """As HTML, numbers and their units on one line."""
    return escape(sentence).replace(" %", "&nbsp;%").replace(" ×", "&nbsp;×")


def _context(study: StudyData, refused: int) -> str:
    measured = [run for run in study.runs.values() if run.kind == "measured"]
    started = sorted(run.started_at for run in measured)
    days = f"{started[0]:%Y-%m-%d}" if started[0].date() == started[-1].date() else f"{started[0]:%Y-%m-%d} to {started[-1]:%Y-%m-%d}"
    parts = [
        f"study {study.name}" if study.name else "all runs of the database",
        f"{len(measured)} measured and {len(study.runs) - len(measured)} simulated runs in {len(study.cells)} cells",
        ", ".join(dict.fromkeys(f"{run.model} on {run.hardware}" for run in measured)),
        f"measured {days}",
    ]
    if refused:
        parts.append(f"{refused} simulated runs not scored (other requests than the measured run, or none)")
    return escape(" · ".join(parts))


def _answers(answers: list[Answer]) -> str:
    """The verdict's table: for each statistic and part of the cells which simulator to trust, and how far it is off."""
    if not answers:
        return '<p class="empty">No valid cell, so nothing to trust or to distrust.</p>'
    body = []
    for place, answer in enumerate(answers):
        last = place + 1 == len(answers) or answers[place + 1].question != answer.question
        body.append(f"<tr{' class=last' if last else ''}>{''.join(_answer_cells(answer))}</tr>")
    heads = [
        "For",
        "Verdict",
        "Nearest simulator",
        "Typical error",
        "Within (9 of 10 cells)",
        "Worst",
        "× noise floor",
        "The others, median signed error",
    ]
    return document.table(heads, body, "The nearest simulator for each metric, and whether to trust it", "answers")


def _answer_cells(answer: Answer) -> Iterator[str]:
    record = answer.nearest
    cells = f"{answer.cells} cell{'' if answer.cells == 1 else 's'}"
    yield f'<th scope="row">{escape(answer.question)}<small>{escape(answer.part)}, {cells}</small></th>'
    yield f'<td><span class="grade {answer.grade}">{GRADES[answer.grade]}</span></td>'
    if record is None:
        yield '<td colspan="6" class="others">no simulator gives a value to compare</td>'
        return
    few = "" if record.cells == record.asked else f", scored on {record.cells} of {record.asked} cells"
    system, track = record.simulator
    yield f"<td><strong>{escape(names.system(system))}</strong><small>{escape(track)}{few}</small></td>"
    yield f'<td class="value">{names.percent(record.typical, sign=False)}<small>{words.side(record)}</small></td>'
    why = words.unbounded(record)
    yield (
        f'<td class="value">unknown<small>{why}</small></td>'
        if why
        else f'<td class="value">±{names.percent(record.bound, sign=False)}</td>'
    )
    yield f'<td class="value">{names.percent(record.worst, sign=False)}</td>'
    known = f"<small>{record.noisy} of {record.cells} cells repeated</small>" if record.noisy < record.cells else ""
    yield f'<td class="value">{"unknown" if record.multiple is None else f"{record.multiple:.1f}"}{known}</td>'
    yield f'<td class="others">{escape(answer.others)}</td>'
