"""What choosing a configuration by a simulator costs: Kendall's tau and regret, axis by axis.

Cells that differ in one setting only (max_num_batched_tokens, tensor_parallel, ...) are options to choose from. They have the same
workload and the same rate, to three digits: at the same rho each would have a rate of its own, and there would be no choice to make.
Engines have settings of their own, and max_num_batched_tokens does not mean quite the same in all of them. So between engines each
configuration of an engine is an option, named by the settings in which it differs from that engine's other ones. An option is one cell,
and its value the median over its valid repeats, measured and simulated.

- Kendall's tau-b (Kendall 1945, doi:10.1093/biomet/33.3.239; scipy.stats.kendalltau) of the two orders of the options: 1 the same,
  -1 reversed.
- Regret: how much worse the option that the simulator ranks first is than the best one, both as measured, relative to the best one's
  value; 0 when it is the best. Where the simulator ranks several options first, the mean of theirs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.data import TRACKS, Key, RunRow
from analysis.stats import known
from results.cells import settings_of

SETTINGS = ("max_num_batched_tokens", "max_num_seqs", "chunked_prefill", "prefix_caching")  # an engine's own
COMMON = ("workload", "rate", "model", "hardware", "tensor_parallel", "replicas")
SHOWN = (*COMMON, "engine", *SETTINGS)  # of the facts that cells have in common; other facts only where rankings differ in nothing else
SAID = (  # settings that a cell's rate says already, or the limits that the engine resolved
    "system",
    *("load.rho", "load.rate", "load.capacity"),
    *("engine.max_num_batched_tokens", "engine.max_num_seqs", "engine.enable_chunked_prefill", "engine.enable_prefix_caching"),
    *("engine.chunked_prefill_size", "engine.max_running_requests", "engine.disable_radix_cache"),
    *("engine.tensor_parallel", "engine.tp_size", "engine.replicas"),
)
RANKED: tuple[Key, ...] = (
    ("ttft", "p50"),
    ("ttft", "p99"),
    ("tpot", "p50"),
    ("tpot", "p99"),
    ("e2e", "p50"),
    ("output_throughput", None),
    ("goodput", None),
)
HIGHER_IS_BETTER = ("output_throughput", "goodput")

Metrics = Mapping[str, Mapping[Key, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """A row of the table `rankings`: what choosing a setting by a simulator costs."""

    study: str | None  # the study whose cells are compared; None: of no study
    system: str  # the simulator
    track: str  # of its runs
    axis: str  # what differs between the cells that are ordered
    setting: str  # what they have in common, in words
    metric: str  # by which they are ordered
    stat: str | None  # of that metric; None: it is a rate
    cells: int  # how many are ordered
    kendall_tau: float | None  # of the simulated order and the measured one; None: one of the orders is all ties
    regret: float | None  # share of the best measured value that is lost by choosing as the simulator does
    measured_best: str  # the cell that is best as measured
    simulated_best: str  # the cell that is best as simulated


def rankings(runs: Mapping[str, RunRow], metrics: Metrics) -> Iterator[Ranking]:
    """All rankings that the runs allow: a simulator was run at two values of an axis or more, and both sides have a number there."""
    measured = [(run, _facts(run)) for run in runs.values() if run.kind == "measured" and run.valid]
    simulators = sorted({(run.system, str(run.track)) for run in runs.values() if run.kind == "simulated" and run.track in TRACKS})
    predictions = _predictions(runs)
    for axis in ("engine", *SETTINGS, "tensor_parallel", "replicas"):
        for study, setting, options in _groups(measured, axis):
            for system, track in simulators:
                for metric, stat in RANKED:
                    sides = _sides(options, predictions, (system, track), (metric, stat), metrics)
                    if len({option.value for option in options if option.name in sides}) >= 2:
                        truth, guess = ({name: pair[side] for name, pair in sides.items()} for side in (0, 1))
                        yield Ranking(
                            study=study,
                            system=system,
                            track=track,
                            axis=axis,
                            setting=setting,
                            metric=metric,
                            stat=stat,
                            cells=len(sides),
                            kendall_tau=kendall_tau(list(truth.values()), list(guess.values())),
                            regret=regret(truth, guess, higher_is_better=metric in HIGHER_IS_BETTER),
                            measured_best="; ".join(best(truth, higher_is_better=metric in HIGHER_IS_BETTER)),
                            simulated_best="; ".join(best(guess, higher_is_better=metric in HIGHER_IS_BETTER)),
                        )


def kendall_tau(measured: list[float], simulated: list[float]) -> float | None:
    """tau-b of two lists of values for the same options; None when one of them is all equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return known(float(stats.kendalltau(measured, simulated).statistic))


def best(values: Mapping[str, float], *, higher_is_better: bool) -> list[str]:
    """The best options; several when they are equally good."""
    top = max(values.values()) if higher_is_better else min(values.values())
    return [name for name, value in values.items() if value == top]


def regret(measured: Mapping[str, float], simulated: Mapping[str, float], *, higher_is_better: bool) -> float | None:
    """How much worse the simulator's choice measures than the best option, relative, >= 0; None when the best measures 0."""
    optimum = measured[best(measured, higher_is_better=higher_is_better)[0]]
    if optimum == 0:
        return None
    losses = [abs(measured[name] - optimum) / abs(optimum) for name in best(simulated, higher_is_better=higher_is_better)]
    return float(np.mean(losses))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One cell to choose. value: on the axis. name: the value, and what distinguishes the cell from others of that value, if any."""

    value: str
    name: str
    repeats: Sequence[RunRow]


_Facts = Mapping[str, str | None]
_Cells = dict[tuple[str, str], list[tuple[RunRow, _Facts]]]  # by (value on the axis, cell)


def _groups(measured: Sequence[tuple[RunRow, _Facts]], axis: str) -> Iterator[tuple[str | None, str, list[_Option]]]:
    """(study, what the cells have in common, options) wherever there are two values on the axis to choose from."""
    groups: dict[tuple[str | None, tuple[tuple[str, str | None], ...]], _Cells] = {}
    for run, facts in measured:
        if (value := facts[axis]) is not None:
            common = tuple((name, facts[name]) for name in sorted(facts) if name != axis and not (axis == "engine" and _is_engines(name)))
            groups.setdefault((run.study, common), {}).setdefault((value, str(run.cell)), []).append((run, facts))
    groups = {key: cells for key, cells in groups.items() if len({value for value, _ in cells}) > 1}
    called: dict[tuple[str | None, str], list[_Facts]] = {}
    for study, common in groups:
        called.setdefault((study, _words(dict(common), SHOWN)), []).append(dict(common))
    for (study, common), cells in sorted(groups.items(), key=lambda group: str(group[0])):
        name = _words(dict(common), SHOWN)
        apart = _words(dict(common), _differing(called[study, name]), unknown=True)
        yield study, ", ".join(filter(None, [name, apart])), list(_options(cells))


def _options(cells: _Cells) -> Iterator[_Option]:
    for value in sorted({value for value, _ in cells}):
        rivals = {cell: runs for (other, cell), runs in sorted(cells.items()) if other == value}
        differing = _differing([runs[0][1] for runs in rivals.values()])
        names = [_words(runs[0][1], differing, unknown=True) for runs in rivals.values()]
        for name, (cell, runs) in zip(names, rivals.items(), strict=True):
            more = name if names.count(name) == 1 else f"cell {cell}"
            yield _Option(value=value, name=value if len(rivals) == 1 else f"{value} ({more})", repeats=[run for run, _ in runs])


def _differing(facts: Sequence[_Facts]) -> list[str]:
    """Names of the facts that are not the same in all of these, those that are shown anyway first."""
    names = dict.fromkeys([*SHOWN, *(name for one in facts for name in one)])
    return [name for name in names if len({one.get(name) for one in facts}) > 1]


def _words(facts: _Facts, names: Sequence[str], *, unknown: bool = False) -> str:
    return ", ".join(f"{name}={facts.get(name)}" for name in names if unknown or facts.get(name) is not None)


def _is_engines(name: str) -> bool:
    return name in ("version", *SETTINGS) or name.startswith("engine.")


def _facts(run: RunRow) -> _Facts:
    """All settings that identify a cell (results/cells.py), with the rate in place of the settings from which it follows."""
    told = settings_of(
        {
            **{name: getattr(run, name) for name in ("system", "version", "model", "hardware", "workload", "config")},
            "limits": {**run.limits, "tensor_parallel": run.tensor_parallel},
            "slo": {"ttft": run.slo_ttft, "tpot": run.slo_tpot, "e2e": run.slo_e2e},
        }
    )
    rate = None if run.rate is None else f"{run.rate:.3g}/s"
    told = {name: value for name, value in told.items() if name not in SAID} | {
        "engine": run.system,
        "rate": rate,
        "replicas": told.get("engine.replicas"),
    }
    # a list is written without ", ", which separates one fact from the next
    return {name: None if value is None else str(value).replace(", ", ",") for name, value in told.items()}


def _predictions(runs: Mapping[str, RunRow]) -> dict[tuple[str, str, str], str]:
    """(measured run, system, track) to the simulated run, where both hold the same requests."""
    found = {}
    for run in runs.values():
        measured = runs.get(str(run.measured_run_id))
        if run.kind == "simulated" and measured is not None and measured.trace_sha256 == run.trace_sha256:
            found[measured.run_id, run.system, str(run.track)] = run.run_id
    return found


def _sides(
    options: Sequence[_Option],
    predictions: Mapping[tuple[str, str, str], str],
    simulator: tuple[str, str],
    key: Key,
    metrics: Metrics,
) -> dict[str, tuple[float, float]]:
    """(measured, simulated) of each option: medians over the repeats that the simulator was run on."""
    sides = {}
    for option in options:
        pairs = [
            (metrics[run.run_id].get(key), metrics[other].get(key))
            for run in option.repeats
            if (other := predictions.get((run.run_id, *simulator)))
        ]
        values = [(truth, guess) for truth, guess in pairs if truth is not None and guess is not None]
        if values:
            truth, guess = np.median(np.array(values, dtype=float), axis=0)
            sides[option.name] = float(truth), float(guess)
    return sides
