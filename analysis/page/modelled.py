"""What a simulator does not model: by its own declaration, and by the conformance kit's traces where they say otherwise."""

from collections.abc import Mapping

from analysis.data import AnalysisError, RunRow
from results.storage import conformance
from results.storage.conformance import Conformance


def not_modelled(run: RunRow) -> str:
    """What a simulator does not or only partly model, by its own declaration; '–' when it declares nothing.

    Where the conformance kit was run on this version of it, what its traces found otherwise is told behind that. Raises AnalysisError when
    the kit's file cannot be read.
    """
    settings = run.config.get("simulator")
    coverage = settings.get("coverage") if isinstance(settings, Mapping) else None
    if not coverage:
        return "–"
    lacks = [_words(name) for name, support in coverage.items() if support == "no"]
    partly = [f"{_words(name)} (partly)" for name, support in coverage.items() if support == "partly"]
    said = ", ".join([*lacks, *partly]) or "nothing"
    try:
        found = otherwise(coverage, conformance.known(run.system, run.version))
    except ValueError as error:
        raise AnalysisError(str(error)) from error
    return f"{said}; measured otherwise: {', '.join(found)}" if found else said


def otherwise(coverage: Mapping[str, str], kit: Conformance | None) -> list[str]:
    """Rows of which the kit's traces say another thing than the declaration: 'preemption (no)'.

    kit: what it found of this version of the simulator. That all cases of a row hold which a simulator itself calls partly is no other
    thing: the cases are few.
    """
    if kit is None:
        return []
    measured = {name: kit.measured(name) for name in coverage if name in kit.declared}
    differ = {n: m for n, m in measured.items() if m is not None and m != coverage[n] and (coverage[n], m) != ("partly", "yes")}
    return [f"{_words(name)} ({support})" for name, support in differ.items()]


def _words(row: str) -> str:
    return row.replace("_", " ")
