"""Two sides in, differences with verdicts out. Read `compare` first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.comparison.difference import Difference, difference, noise_of
from analysis.comparison.matching import CellPair, in_words, matched
from analysis.comparison.requests_spread import SUMS, SampledRun, same_requests, sampled, spreads
from analysis.comparison.sides import Repeats, Side
from analysis.comparison.verdicts import FigureVerdict, verdicts
from analysis.data import AnalysisError, Key
from analysis.stats import Bootstrap

LATENCY = ("ttft", "tpot", "itl", "e2e")
SHOWN = ("mean", "p50", "p90", "p99")
FIGURES: tuple[Key, ...] = (*((metric, stat) for metric in LATENCY for stat in SHOWN), *((rate, None) for rate in SUMS))
METRICS = (*LATENCY, *SUMS)
ASSUMED = 0.05  # of 13 cells of 2 or 3 repeats each on A40s (conf/recording/a40_qwen2.5_7b.yaml) the median floors of figures: 0 to 16 %


OTHER_RATE = 0.02  # relative: by so much two rates are not the same


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How it is judged. margin: relative difference that counts as none; noise: floor where no repeats show one; metrics: of METRICS."""

    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    margin: float = 0.01
    noise: float = ASSUMED
    metrics: Sequence[str] = METRICS

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("noise", self.noise)):
            if not 0 <= value < 1:
                raise AnalysisError(f"--{name} is a fraction from 0 to 1, 0.05 for 5 %; got {value:g}")


@dataclass(frozen=True, kw_only=True)
class ComparedCells:
    """Two cells with their figures. paired: they served the same requests. notes: what a reader must know before believing a figure."""

    pair: CellPair
    figures: Sequence[tuple[Difference, FigureVerdict]]
    paired: bool
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ComparedSides:
    """All of a comparison. alone: what has no partner, a line each; left_out: runs that do not count, a line each."""

    one: str
    other: str
    judged: Judged
    cells: Sequence[ComparedCells]
    alone: Sequence[str]
    left_out: Sequence[str]

    def count(self, word: str) -> int:
        """How many figures have this verdict."""
        return sum(verdict.word == word for cells in self.cells for _, verdict in cells.figures)


def compare(one: Side, other: Side, judged: Judged) -> ComparedSides:
    """Hold B against A, figure by figure. Raises AnalysisError where no cell of one belongs to a cell of the other."""
    kinds = {cell.is_simulated: cell.runs[0].run_id for side in (one, other) for cell in side.cells}
    if len(kinds) > 1:
        raise AnalysisError(
            f"{kinds[True]} is simulated and {kinds[False]} is measured: ./plumbline table scores simulators; give two of a kind"
        )
    matching = matched(one, other)
    alone = [
        f"only in {side.name}: {cell.runs[0].run_id} ({cell.runs[0].workload})"
        for side, cells in ((one, matching.only_one), (other, matching.only_other))
        for cell in cells
    ]
    if not matching.pairs:
        raise AnalysisError(f"no cell of {one.name} was asked what a cell of {other.name} was: nothing to compare; {alone[0]}, {alone[-1]}")
    found = [_differences(one, other, pair, judged) for pair in matching.pairs]
    flat = [(figure, (pair.one, pair.other)) for pair, (figures, _) in zip(matching.pairs, found, strict=True) for figure in figures]
    told = iter(verdicts(flat, judged.margin))
    return ComparedSides(
        one=one.name,
        other=other.name,
        judged=judged,
        cells=[
            ComparedCells(
                pair=pair,
                figures=[(figure, next(told)) for figure in figures],
                paired=paired,
                notes=_notes(one, other, pair, figures, paired=paired),
            )
            for pair, (figures, paired) in zip(matching.pairs, found, strict=True)
        ],
        alone=alone,
        left_out=[*one.left_out, *other.left_out],
    )


def _differences(one: Side, other: Side, pair: CellPair, judged: Judged) -> tuple[list[Difference], bool]:
    """The figures that a side has, and whether both served the same requests."""
    sides = ((one, pair.one), (other, pair.other))
    first, second = _alike(sides)
    by_requests, confidence = spreads(first, second, judged.bootstrap), judged.bootstrap.confidence
    found = [difference(key, sides, by_requests.get(key), noise_of(key, sides, judged.noise), confidence) for key in FIGURES]
    known = [each for each in found if each.key[0] in judged.metrics and (each.one is not None or each.other is not None)]
    return known, same_requests(first, second)


def _alike(sides: Sequence[tuple[Side, Repeats]]) -> tuple[SampledRun, SampledRun]:
    """A run of each side that stands for it where single requests count: two of the same requests where there are such."""
    (one, first), (other, second) = sides
    by_trace = {run.trace_sha256: run for run in reversed(second.runs)}
    a = next((run for run in first.runs if run.trace_sha256 in by_trace), first.runs[0])
    return sampled(one.connection, a), sampled(other.connection, by_trace.get(a.trace_sha256, second.runs[0]))


def _notes(one: Side, other: Side, pair: CellPair, figures: Sequence[Difference], *, paired: bool) -> list[str]:
    sides = ((one, pair.one), (other, pair.other))
    notes = []
    if pair.differing:
        notes.append(f"settings that differ: {in_words(pair.differing)}")
    a, b = (_mean(side, cell, "offered_rate") for side, cell in sides)
    if a and b and abs(b / a - 1) > OTHER_RATE:
        notes.append(f"not the same rate: {a:.3g} | {b:.3g} requests/s; latencies differ for that alone (load.rate gives both the same)")
    if not paired:
        notes.append("not the same requests: intervals are of two samples, wider than of the same requests")
    if not all(figure.noise.measured for figure in figures):
        notes.append("no repeats: the noise floor is assumed (--noise); repeats of either side would show it")
    failed = [_mean(side, cell, "error_rate") or 0.0 for side, cell in sides]
    if any(failed):
        notes.append(f"failed requests: {failed[0]:.2%} | {failed[1]:.2%}; latencies are over the others")
    usd = [[side.costs[run.run_id] for run in cell.runs if run.run_id in side.costs] for side, cell in sides]
    if all(usd):
        notes.append("a million output tokens cost " + " | ".join(f"{sum(of) / len(of):.3g}" for of in usd) + " USD")
    if pair.one.is_same_as(pair.other):
        notes.append("both sides are the same runs")
    return notes


def _mean(side: Side, cell: Repeats, rate: str) -> float | None:
    known: list[Any] = [side.values[run.run_id].get((rate, None)) for run in cell.runs]
    return None if None in known else sum(known) / len(known)
