"""Git states of an engine as sides of a comparison: which commit a stored run is of. Read `runs_of` first.

A run says it in its provenance, where its engine was installed from a checkout (harness/provenance.py); else its version may, as those of
wheels that were built between releases do (0.11.1.dev45+gabc1234).
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.data import AnalysisError, RunRow
from results.project.git import GitError, resolved

PREFIX = "git:"
SHORTEST = 7  # digits of an id that means one commit
BUILT_FROM = re.compile(r"[+.]g([0-9a-f]{7,40})(?![0-9a-f])")


def commit_of(run: RunRow) -> str | None:
    """The commit of the engine, or the first digits of it; None: not known."""
    said = run.provenance.get("engine_commit")
    found = None if said else BUILT_FROM.search(run.version or "")
    return str(said) if said else found[1] if found else None


def runs_of(name: str, runs: Iterable[RunRow], checkout: Path | None) -> tuple[list[RunRow], list[str]]:
    """The measured runs of git:REF, and a line for each that is left out as its checkout had been edited.

    checkout: of the engine, where branches and tags are looked up. Raises AnalysisError for a REF that means no commit, and for one of
    which there is no run.
    """
    commit = _commit(name.removeprefix(PREFIX), checkout)
    known = [(run, of) for run in runs if run.kind == "measured" and (of := commit_of(run)) is not None]
    mine = [run for run, of in known if of.startswith(commit) or commit.startswith(of)]
    if not mine:
        raise AnalysisError(f"{name}: no run is of {commit[:12]}; {_others([of for _, of in known])}")
    dirty = [run for run in mine if run.provenance.get("engine_dirty")]
    left_out = [f"{run.run_id} is of an edited checkout of {commit[:12]}: left out" for run in dirty]
    return [run for run in mine if run not in dirty], left_out


def _commit(ref: str, checkout: Path | None) -> str:
    if checkout is not None:
        try:
            return resolved(ref, checkout)
        except GitError as error:
            raise AnalysisError(f"{PREFIX}{ref}: {error}") from error
    if len(ref) < SHORTEST or not set(ref) <= set("0123456789abcdef"):
        raise AnalysisError(f"{PREFIX}{ref}: give --checkout FOLDER, where git knows {ref!r}, or {SHORTEST} or more digits of the commit")
    return ref


def _others(commits: Sequence[str]) -> str:
    if not commits:
        return "no run says its engine's commit: pip install -e CHECKOUT, then measure with engine.environment=null engine.python=PYTHON"
    return f"there are runs of {', '.join(sorted({commit[:12] for commit in commits}))}"
