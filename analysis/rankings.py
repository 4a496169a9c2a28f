"""What choosing a configuration by a simulator costs: Kendall's tau and regret, axis by axis.

Cells that differ in one setting only (the engine, its max_num_batched_tokens, ...) are options to choose from, at the same workload and the
same rate, to three digits: at the same rho each would have a load of its own, and that is no choice. Each option is worth the median over
its valid repeats, measured and simulated.

- Kendall's tau-b (Kendall 1945, doi:10.1093/biomet/33.3.239; scipy.stats.kendalltau) of the two orders of the options: 1 the same,
  -1 reversed.
- Regret: how much worse the option that the simulator ranks first measures than the one that measures best, relative to the latter;
  0 when it is the best. Options that the simulator holds for equally good are drawn by lot: their mean.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.data import TRACKS, Key, RunRow
from analysis.stats import known

SETTINGS = ("max_num_batched_tokens", "max_num_seqs", "chunked_prefill", "prefix_caching")  # an engine's own
COMMON = ("workload", "rate", "model", "hardware", "tensor_parallel", "replicas")
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
    """A row of the table `rankings`; schema.sql says what the columns mean."""

    study: str | None
    system: str
    track: str
    axis: str
    setting: str
    metric: str
    stat: str | None
    cells: int
    kendall_tau: float | None
    regret: float | None
    measured_best: str
    simulated_best: str


def rankings(runs: Mapping[str, RunRow], metrics: Metrics) -> Iterator[Ranking]:
    """All rankings that the runs allow: of at least two options that a simulator was run on and both sides have a value for."""
    measured = [run for run in runs.values() if run.kind == "measured" and run.valid]
    simulators = sorted({(run.system, str(run.track)) for run in runs.values() if run.kind == "simulated" and run.track in TRACKS})
    predictions = _predictions(runs)
    for axis in ("engine", *SETTINGS, "tensor_parallel", "replicas"):
        for (study, setting), options in sorted(_groups(measured, axis).items(), key=str):
            for system, track in simulators:
                for metric, stat in RANKED:
                    sides = _sides(options, predictions, (system, track), (metric, stat), metrics)
                    if len(sides) >= 2:
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
                            measured_best=", ".join(best(truth, higher_is_better=metric in HIGHER_IS_BETTER)),
                            simulated_best=", ".join(best(guess, higher_is_better=metric in HIGHER_IS_BETTER)),
                        )


def kendall_tau(measured: list[float], simulated: list[float]) -> float | None:
    """tau-b of two lists of values for the same options; None when one of them is all equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return known(float(stats.kendalltau(measured, simulated).statistic))


def best(values: Mapping[str, float], *, higher_is_better: bool) -> list[str]:
    """The best options, several when they are equal."""
    top = max(values.values()) if higher_is_better else min(values.values())
    return [name for name, value in values.items() if value == top]


def regret(measured: Mapping[str, float], simulated: Mapping[str, float], *, higher_is_better: bool) -> float | None:
    """How much worse the simulator's choice measures than the best option, relative, >= 0; None when the best measures 0."""
    optimum = measured[best(measured, higher_is_better=higher_is_better)[0]]
    if optimum == 0:
        return None
    losses = [abs(measured[name] - optimum) / abs(optimum) for name in best(simulated, higher_is_better=higher_is_better)]
    return float(np.mean(losses))


def _groups(measured: list[RunRow], axis: str) -> dict[tuple[str | None, str], dict[str, list[RunRow]]]:
    """Runs by (study, what they have in common), then by their option on the axis; only where there are at least two options.

    Of engines, the settings are their own: what one calls max_num_batched_tokens is not quite what another does.
    """
    names = [name for name in (*COMMON, *(() if axis == "engine" else ("engine", *SETTINGS))) if name != axis]
    groups: dict[tuple[str | None, str], dict[str, list[RunRow]]] = {}
    for run in measured:
        about = _about(run)
        if about[axis] is not None:
            key = run.study, ", ".join(f"{name}={about[name]}" for name in names if about[name] is not None)
            groups.setdefault(key, {}).setdefault(str(about[axis]), []).append(run)
    return {key: dict(sorted(options.items())) for key, options in groups.items() if len(options) >= 2}


def _about(run: RunRow) -> dict[str, object]:
    engine = run.config.get("engine") or {}
    return {
        "engine": run.system,
        "workload": run.workload,
        "rate": None if run.rate is None else f"{run.rate:.3g}/s",
        "model": run.model,
        "hardware": run.hardware,
        "tensor_parallel": run.tensor_parallel,
        "replicas": engine.get("replicas"),
        **{name: run.limits[name] for name in SETTINGS},
    }


def _predictions(runs: Mapping[str, RunRow]) -> dict[tuple[str, str, str], str]:
    """(measured run, system, track) to the simulated run, where it holds the same requests."""
    found = {}
    for run in runs.values():
        measured = runs.get(str(run.measured_run_id))
        if run.kind == "simulated" and measured is not None and measured.trace_sha256 == run.trace_sha256:
            found[measured.run_id, run.system, str(run.track)] = run.run_id
    return found


def _sides(
    options: Mapping[str, list[RunRow]],
    predictions: Mapping[tuple[str, str, str], str],
    simulator: tuple[str, str],
    key: Key,
    metrics: Metrics,
) -> dict[str, tuple[float, float]]:
    """(measured, simulated) of each option: medians over the repeats that the simulator was run on."""
    sides = {}
    for name, repeats in options.items():
        pairs = [
            (metrics[run.run_id].get(key), metrics[other].get(key))
            for run in repeats
            if (other := predictions.get((run.run_id, *simulator)))
        ]
        values = [(truth, guess) for truth, guess in pairs if truth is not None and guess is not None]
        if values:
            truth, guess = np.median(np.array(values, dtype=float), axis=0)
            sides[name] = float(truth), float(guess)
    return sides
