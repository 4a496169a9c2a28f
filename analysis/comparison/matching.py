"""Which cells of two sides belong together, and in which settings two cells differ. Read `matched` first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis import names
from analysis.comparison.sides import Repeats, Side
from analysis.data import RunRow
from results.cells import ASKED, settings_of

ASKED_OF = (*ASKED, "model", "hardware")  # what two builds of an engine have in common, whatever else was changed
MOST = 12  # settings that are named; of more, how many more


@dataclass(frozen=True, kw_only=True)
class CellPair:
    """Two cells that are compared. differing: settings with other values, name to (A's, B's); None: it has no such setting."""

    one: Repeats
    other: Repeats
    differing: Mapping[str, tuple[Any, Any]]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        one, other = (f"{names.run_title(side.runs[0])}, {side.runs[0].workload}" for side in (self.one, self.other))
        return one if one == other else f"{one} | {other}"


@dataclass(frozen=True, kw_only=True)
class Matching:
    """The pairs, and what has no partner on the other side."""

    pairs: Sequence[CellPair]
    only_one: Sequence[Repeats]
    only_other: Sequence[Repeats]


def matched(one: Side, other: Side) -> Matching:
    """The cells of both sides in pairs: of equal settings but for the version; of what is left, those that were asked the same.

    Where each side has one cell they are a pair whatever they are. A cell that could go with two others goes with none of them.
    """
    left = [list(one.cells), list(other.cells)]
    pairs = []
    if len(left[0]) == len(left[1]) == 1:
        pairs, left = [(left[0][0], left[1][0])], [[], []]
    for of in (_but_version, _asked):
        for first, second in list(_alike(left[0], left[1], of)):
            pairs.append((first, second))
            left[0].remove(first)
            left[1].remove(second)
    return Matching(
        pairs=[CellPair(one=first, other=second, differing=differing(first.runs[0], second.runs[0])) for first, second in pairs],
        only_one=left[0],
        only_other=left[1],
    )


def differing(one: RunRow, other: RunRow) -> dict[str, tuple[Any, Any]]:
    """The settings, and the version, that two runs do not share."""
    first, second = (dict(_settings(run)) for run in (one, other))
    return {name: (first.get(name), second.get(name)) for name in sorted(first | second) if first.get(name) != second.get(name)}


def in_words(settings: Mapping[str, tuple[Any, Any]]) -> str:
    """E.g. 'max_num_seqs 32 | 64, version 0.1 | 0.2'."""
    said = [f"{name} {_said(one)} | {_said(other)}" for name, (one, other) in settings.items()]
    return ", ".join(said[:MOST]) + (f" and {len(said) - MOST} more" if len(said) > MOST else "")


def _alike(ones: Sequence[Repeats], others: Sequence[Repeats], of: Any) -> Iterator[tuple[Repeats, Repeats]]:
    """The pairs of equal keys, each key once on either side."""
    first, second = ([(of(cell.runs[0]), cell) for cell in cells] for cells in (ones, others))
    for key, cell in first:
        partners = [other for mine, other in second if mine == key]
        if len(partners) == 1 and [mine for mine, _ in first].count(key) == 1:
            yield cell, partners[0]


def _settings(run: RunRow) -> Iterator[tuple[str, Any]]:
    limits = {**run.limits, "tensor_parallel": run.tensor_parallel}
    slo = {"ttft": run.slo_ttft, "tpot": run.slo_tpot, "e2e": run.slo_e2e}
    names_of = {name: getattr(run, name) for name in ("system", "version", "model", "hardware", "workload")}
    settings = settings_of({"config": run.config, "slo": slo, "limits": limits, **names_of})
    return ((name, value) for name, value in settings.items() if value is not None)


def _but_version(run: RunRow) -> dict[str, Any]:
    return {name: value for name, value in _settings(run) if name != "version"}


def _asked(run: RunRow) -> dict[str, Any]:
    return {name: value for name, value in _settings(run) if name.partition(".")[0] in ASKED_OF}


def _said(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
