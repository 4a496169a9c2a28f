"""What a study's page opens with: three sentences that are read in ten seconds. words.py has the long verdict, trust.py the rules.

Which simulator comes nearest, on which GPUs; what is right within a tenth on each of them, and by whom; by how much the engines themselves
differ from repeat to repeat.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import pandas as pd

from analysis import names
from analysis.data import Key
from analysis.study.data import Simulator, StudyData
from analysis.study.trust import TRUST, Nearest, nearest, records
from analysis.study.words import verdict

SHOWN: tuple[Key, ...] = (("ttft", "p50"), ("tpot", "p50"), ("e2e", "p50"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The first sentence, and the two that follow; fewer where there is nothing to say."""

    headline: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.headline, *self.others])


def opening(study: StudyData) -> Opening:
    """The sentences. Where no simulator can be called the nearest, the long verdict's first one says why."""
    best = nearest(study, SHOWN) if study.simulators and not study.valid_cells.empty else None
    if best is None:
        said = verdict(study)
        return Opening(headline=said.headline, others=said.reasons[:2])
    return Opening(headline=_headline(study, best), others=(_where(study, best.simulator), _floor(study)))


def _headline(study: StudyData, best: Nearest) -> str:
    valid = study.valid_cells
    gpus = [names.gpu(name) for name in dict.fromkeys(valid["hardware"])]
    where = f"On {gpus[0] if len(gpus) == 1 else f'{len(gpus)} GPUs ({_and(gpus)})'}"
    found = {key: record for key in SHOWN for record in records(study, key) if record.simulator == best.simulator}
    errors = [f"{names.percent(record.lean)} in {names.METRICS[metric].label}" for (metric, _), record in found.items()]
    among = "comes nearest" if len(best.among) > 1 else "alone covers half of what was measured"
    return f"{where}, {names.system(*best.simulator)} {among}: its median error is {_and(errors)}."


def _where(study: StudyData, headliner: Simulator) -> str:
    """For each GPU (and model, where it served several), the metrics whose errors stay small in most of its cells, by the simulator that
    comes nearest there.
    """
    valid = study.valid_cells
    models = {str(gpu): cells["model"].nunique() for gpu, cells in valid.groupby("hardware")}
    found: dict[tuple[str, str], list[str]] = {}  # metrics and simulator to GPUs
    lost: list[str] = []
    for (gpu, model), cells in valid.groupby(["hardware", "model"], sort=False):
        name = names.gpu(str(gpu)) + (f" ({str(model).replace('_', ' ')})" if models[str(gpu)] > 1 else "")
        best = nearest(study, SHOWN, cells)
        good = [names.METRICS[key[0]].label for key in SHOWN if best is not None and _small(study, key, cells, best.simulator)]
        if best is None or not good:
            lost.append(name)
        else:
            by = "" if best.simulator == headliner else f" by {', '.join((names.system(best.simulator[0]), best.simulator[1]))}"
            found.setdefault((_and(good), by), []).append(name)
    if not found:
        return f"No simulator is within {TRUST * 100:g} % in nine of ten loads for any latency: use none without its error in mind."
    said = [f"{metrics} on {_and(gpus)}{by}" for (metrics, by), gpus in found.items()]
    nothing = f"; nothing on {_and(lost)}" if lost else ""
    return f"Within {TRUST * 100:g} % in nine of ten loads: {', '.join(said)}{nothing}."


def _small(study: StudyData, key: Key, cells: pd.DataFrame, simulator: Simulator) -> bool:
    found = [record for record in records(study, key, cells) if record.simulator == simulator]
    return bool(found) and found[0].size <= TRUST and found[0].covers


def _floor(study: StudyData) -> str:
    """By how much the engines differ from themselves, and how many cells were closed loops."""
    same = study.same & set(study.valid_cells["cell"])
    floors = list(_floors(study, same))
    requests = "the same requests" if same else "a load, each with other requests"
    said = f"From repeat to repeat of {requests}, the engines themselves differ by {_and(floors)}" if floors else "Nothing was repeated"
    closed = study.closed & set(study.valid_cells["cell"])
    loops = f"{_count(len(closed), 'cell')} {'is a closed loop' if len(closed) == 1 else 'are closed loops'}, where errors cannot add up"
    return f"{said}{f'; {loops}' if closed else ''}."


def _floors(study: StudyData, same: Set[str]) -> Iterator[str]:
    """Of the cells that repeated the same requests, where there are any: else the spread is that of the requests, too."""
    for key in SHOWN:
        scores = study.scored(key)
        scores = scores[scores["cell"].isin(same)] if same else scores
        noise = scores.groupby("cell")["noise"].first().dropna()
        if len(noise):
            yield f"{names.percent(float(noise.median()), sign=False)} in {names.METRICS[key[0]].label}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _and(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
