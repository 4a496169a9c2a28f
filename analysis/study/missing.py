"""What a study's simulators did not give, and why: a row per simulator, track and reason, with the number of runs that it holds for."""

from collections.abc import Sequence
from html import escape

from analysis import names
from analysis.page import document
from results.project.missing import MissingSimulation

HEADS = ("Simulator", "Runs", "Why")


def as_html(refusals: Sequence[MissingSimulation], once: Sequence[str]) -> str:
    """The section; empty where nothing is missing. once: simulators that took the first repeat of each cell only."""
    if not refusals and not once:
        return ""
    parts = ['<section id="missing"><h2>What simulators did not give</h2>']
    if once:
        shown = ", ".join(escape(names.system(name)) for name in once)
        parts.append(f"<p>Of each cell only the first repeat was given to {shown}, which are slow; the others simulated every repeat.</p>")
    if refusals:
        parts.append(
            document.table(HEADS, map(_row, refusals), "Simulations without a result, by reason; such runs count in no score", "plain")
        )
    return "\n".join([*parts, "</section>"])


def _row(refusal: MissingSimulation) -> str:
    what = "failed: " if refusal.failed else ""
    name = f'<th scope="row">{escape(names.system(refusal.system))} <small>{escape(refusal.track)}</small></th>'
    return f'<tr>{name}<td>{refusal.runs}</td><td class="words">{what}{escape(refusal.reason)}</td></tr>'
