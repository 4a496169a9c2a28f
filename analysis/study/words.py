"""The verdict of a study in plain words, computed from the scores and never rosier than they are. trust.py has the rules."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import pandas as pd

from analysis import names
from analysis.data import LOST, Key
from analysis.study.data import Simulator, StudyData
from analysis.study.trust import CARE, MANY, TRUST, Nearest, Record, nearest, records

OVERALL: tuple[Key, ...] = (("ttft", "p50"), ("tpot", "p50"), ("output_throughput", None))
LATENCIES: tuple[Key, ...] = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("e2e", "p50"))
QUESTIONS: tuple[Key, ...] = (*LATENCIES, ("output_throughput", None), ("goodput", None))
ECHO: Key = ("output_throughput", None)  # below saturation it equals the offered load, which tests no simulator
SATURATED = "saturated"
LEADS = (
    ("trust", "trust it for", "and"),
    ("care", "with care for", "and"),
    ("unproven", "unproven for", "and"),
    ("not", "not for", "or"),
)
RULE = (
    f"Trust: 9 of 10 cells (of fewer than {MANY}: all) lie within {TRUST * 100:g} %, their confidence intervals included; with care: "
    f"within {CARE * 100:g} %; unproven: the errors do, but not their intervals; not: beyond that, or where none covers half of the cells. "
    f"A cell without an interval (of too few requests for its load), or of whose requests a simulator refused or lost more than "
    f"{LOST * 100:g} %, counts as within nothing. "
    "Simulators are compared with each other on cells that all of them cover. Typical is the median of |error| over the cells. "
    "Throughput is judged where cells are saturated: below, every simulator puts out what is offered."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The simulator to trust for one statistic in one part of the cells. grade: as trust.Record has it, 'unknown' when nothing was scored.

    nearest: the simulator's record, None when there is none; others: the next one and the furthest of those compared with it, in words.
    """

    question: str
    part: str
    cells: int
    grade: str
    nearest: Record | None
    others: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer in one sentence, and the reasons in a few more."""

    headline: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.headline, *self.reasons])


def verdict(study: StudyData) -> Verdict:
    """Which simulator comes nearest, what it can be trusted for, and which ones not to trust."""
    valid = study.valid_cells
    lost = len(study.cells) - len(valid)
    left_out = (f"{_count(lost, 'cell')} without a valid run: left out.",) if lost else ()
    if valid.empty:
        headline = f"INVALID: none of the {_count(len(study.cells), 'measured cell')} has a valid run, so no simulator can be judged."
        return Verdict(headline=headline)
    where = f"Over {_count(len(valid), 'measured cell')} on {_and(list(dict.fromkeys(map(names.system, valid['system']))))}"
    if not study.simulators:
        return Verdict(headline=f"{where}, nothing was simulated: there is no simulator to judge.", reasons=left_out)
    best = nearest(study, OVERALL)
    if best is None:
        return Verdict(
            headline=f"{where}, no simulator covers half of the cells: none can be trusted on what was measured.",
            reasons=(*_refused(study), *left_out),
        )
    graded = [(part, len(cells), _grades(study, part, cells, best.simulator)) for part, cells in parts(study)]
    reasons = tuple(_trusted(part, cells, by_grade) for part, cells, by_grade in graded)
    said = "" if any("trust" in by_grade for *_, by_grade in graded) else ", and is not to be trusted without care for anything"
    return Verdict(
        headline=f"{where}, {names.system(*best.simulator)} {_among(study, best)}{said}.",
        reasons=(*reasons, *_not_trusted(study), *_refused(study), *_not_compared(study, best), *left_out),
    )


def parts(study: StudyData) -> list[tuple[str, pd.DataFrame]]:
    """The valid cells in parts: below saturation, saturated, unknown. Empty parts are left out."""
    valid = study.valid_cells
    saturated = valid["saturated"].astype("boolean")
    found = (("below saturation", saturated.eq(False)), (SATURATED, saturated.eq(True)), ("saturation unknown", saturated.isna()))
    return [(part, valid[here.fillna(False).astype(bool)]) for part, here in found if here.fillna(False).any()]


def answers(study: StudyData) -> list[Answer]:
    """For each statistic and part of the cells: the nearest simulator, how far it is off, and how the others do."""
    return [
        _answer(key, part, len(cells), records(study, key, cells)) for key in QUESTIONS for part, cells in parts(study) if _tests(key, part)
    ]


def side(record: Record) -> str:
    """On which side the errors lie: 'too high' or 'too low' when the median signed error is nearly as large as the typical one."""
    if record.typical == 0 or abs(record.lean) < 0.8 * record.typical:
        return "to either side" if record.cells > 1 and record.typical > 0 else ""
    return "too high" if record.lean > 0 else "too low"


def unbounded(record: Record) -> str:
    """Why the errors have no bound: in how many cells requests or intervals are missing; empty where there is a bound."""
    if math.isfinite(record.bound):
        return ""
    missing = {"requests lost": record.lost, "no interval": record.blank}
    return _and([f"{what} in {_count(cells, 'cell')}" for what, cells in missing.items() if cells])


def _tests(key: Key, part: str) -> bool:
    return key != ECHO or part == SATURATED


def _among(study: StudyData, best: Nearest) -> str:
    """That this simulator is the nearest, among how many, and on which cells where not on all."""
    if len(study.simulators) == 1:
        return "is the only simulator"
    if len(best.among) == 1:
        return f"is the only one of {len(study.simulators)} simulators and tracks that covers half of the cells"
    where = f", on the {_count(best.cells, 'cell')} that all of them cover" if best.cells < len(study.valid_cells) else ""
    return f"comes nearest of {len(best.among)} simulators and tracks in median TTFT and TPOT and throughput together{where}"


def _trusted(part: str, cells: int, by_grade: Mapping[str, Sequence[Record]]) -> str:
    """What the nearest simulator is good for in one part of the cells."""
    unknown = all(record.multiple is None for records in by_grade.values() for record in records)
    said = [f"{lead} {_each(by_grade[grade], word, unknown)}" for grade, lead, word in LEADS if grade in by_grade]
    repeats = ". Nothing was repeated there: the noise floor is unknown" if unknown and said else ""
    return f"{part.capitalize()} ({_count(cells, 'cell')}): {'; '.join(said) or 'it gives nothing to compare'}{repeats}."


def _each(records: Sequence[Record], word: str, unknown: bool) -> str:
    """The statistics, each with its error; what all of them lack is said once."""
    lacks = {unbounded(one) if one.grade == "unproven" else "" for one in records}
    together = len(records) > 1 and len(lacks) == 1 and lacks != {""}
    said = [f"{_said(one.key)} ({_typical(one, unknown)}{'' if together else _worst(one)}{_few(one)})" for one in records]
    return _and(said, word) + (f", all with {lacks.pop()}" if together else "")


def _grades(study: StudyData, part: str, cells: pd.DataFrame, simulator: Simulator) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for key in QUESTIONS:
        if _tests(key, part):
            for record in records(study, key, cells):
                if record.simulator == simulator:
                    found.setdefault(record.grade, []).append(record)
    return found


def _not_trusted(study: StudyData) -> tuple[str, ...]:
    """The simulators that are graded 'not' for every latency, over all cells."""
    grades: dict[Simulator, set[str]] = {}
    for key in LATENCIES:
        for record in records(study, key):
            grades.setdefault(record.simulator, set()).add(record.grade)
    bad = _systems(study, {simulator for simulator, found in grades.items() if found == {"not"}})
    return (f"Not to be trusted for any latency: {_and(bad)}.",) if bad else ()


def _refused(study: StudyData) -> tuple[str, ...]:
    """The simulators that did not serve all requests; they are scored on the requests that they served."""
    lost = study.scores[study.scores["failed"] > LOST]
    said = [
        f"{names.system(*simulator)} up to {_size(mine['failed'].max())} in {_count(mine['cell'].nunique(), 'cell')}"
        for simulator in study.simulators
        if len(mine := lost[lost["system"].eq(simulator[0]) & lost["track"].eq(simulator[1])])
    ]
    return (f"Requests were refused or lost, and errors there are of the others: {_and(said)}.",) if said else ()


def _not_compared(study: StudyData, best: Nearest) -> tuple[str, ...]:
    left = _systems(study, set(study.simulators) - best.among)
    return (f"Not compared, for they share too few cells with the others: {_and(left)}.",) if left and len(best.among) > 1 else ()


def _systems(study: StudyData, some: Set[Simulator]) -> list[str]:
    """E.g. 'Vidur (all tracks)', 'AISimulate (shipped, matched)'."""
    found = []
    for system in dict.fromkeys(system for system, _ in study.simulators):
        mine = [track for name, track in study.simulators if name == system]
        tracks = [track for track in mine if (system, track) in some]
        if tracks:
            found.append(names.system(system, "all tracks" if tracks == mine and len(mine) > 1 else ", ".join(tracks)))
    return found


def _answer(key: Key, part: str, cells: int, found: Sequence[Record]) -> Answer:
    question = names.metric(*key)
    if not found:
        return Answer(question=question, part=part, cells=cells, grade="unknown", nearest=None, others="")
    first, rest = found[0], [record for record in found[1:] if record.shared]
    others = [f"next {_other(rest[0])}" if len(rest) > 1 else _other(rest[0])] if rest else []
    others += [f"furthest {_other(rest[-1])}"] if len(rest) > 1 else []
    grade = first.grade if first.covers else "not"
    return Answer(question=question, part=part, cells=cells, grade=grade, nearest=first, others=", ".join(others))


def _other(record: Record) -> str:
    return f"{names.system(*record.simulator)} {names.percent(record.lean)}"


def _typical(record: Record, unknown: bool) -> str:
    multiple = "" if unknown else ", noise unknown" if record.multiple is None else f", {record.multiple:.1f} × noise"
    return f"{'typically ' if record.cells > 1 else ''}{_size(record.typical)}{multiple}"


def _worst(record: Record) -> str:
    if record.grade == "unproven":
        return f", but {unbounded(record) or f'uncertain up to {_size(record.bound)}'}"
    return f", at worst {_size(record.worst)}" if record.grade == "not" else ""


def _few(record: Record) -> str:
    return f", on {record.cells} of {record.asked} cells" if record.cells < record.asked else ""


def _size(error: float) -> str:
    return names.percent(error, sign=False)


def _said(key: Key) -> str:
    """A metric inside a sentence."""
    name = names.metric(*key)
    return name if name[:2].isupper() else name[0].lower() + name[1:]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _and(parts: Sequence[str], word: str = "and") -> str:
    *first, last = parts
    return f"{', '.join(first)} {word} {last}" if first else last
