"""The answer in one plain sentence, computed from the scores and never rosier than they are.

Requests that a simulator refused or lost count as in a study's grades (study/trust.py): from LOST of them on it is not compared with those
that served all, and its errors, which are of the others, are within nothing.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from analysis import names
from analysis.data import LOST, Key, RunRow, Score, by_simulator
from analysis.scoring.blocks import fewest

HEADLINES: Mapping[Key, str] = {
    ("ttft", "p50"): "median TTFT",
    ("tpot", "p50"): "median TPOT",
    ("output_throughput", None): "throughput",
}
NEAR = 0.03  # an interval inside +-3 % reads 'within 3 %', whether or not it holds 0
DRIFT = 0.03  # of step time, from which on the verdict says that the machine was not as it was profiled
WIDE = 0.5  # an interval wider than 50 points says little, and the sentence says that

ByKey = Mapping[Key, Score]
Shares = Mapping[tuple[str, str], float]  # by (system, track)


def verdict(
    run: RunRow,
    metrics: Mapping[Key, float | None],
    scores: Sequence[Score],
    refused: Sequence[str] = (),
    lost: Shares = MappingProxyType({}),
    machine: "MachineError | None" = None,
) -> str:
    """Say how near the simulators come to one measured run.

    metrics: the measured run's own values. scores: its rows of the table fidelity. refused: why simulated runs held against it were
    not scored, a line each. lost: the share of the requests that each simulator refused or lost. machine: its own error, where it has one.
    """
    if not run.valid:
        return f"INVALID: {run.invalid_reason}. On {names.run_title(run)}, what was measured does not count, and no score against it does."
    where = f"{machine.clause} On {names.run_title(run)}" if machine else f"On {names.run_title(run)}"
    if not scores and refused:
        return f"{where}, no simulator could be scored: {'; '.join(refused)}."
    if not scores:
        return f"{where}, {_measured(metrics)}; no simulator was run on these requests."
    every = by_simulator(scores)
    picky = {name: lost[name] for name in every if lost.get(name, 0.0) > LOST}
    contenders = {name: found for name, found in every.items() if name not in picky}
    if not contenders:
        contenders = {name: _unbounded(found) for name, found in every.items()}
    nearest, *others = [name for name in nearest_first(scores, lost) if name in contenders]
    sentence = f"{names.system(*nearest)} {predictions(contenders[nearest])}"
    if others:
        furthest = others[-1]
        sentence = f"the nearest of {len(contenders)}, {sentence}; the furthest, {names.system(*furthest)}, {_worst(contenders[furthest])}"
    left_out = f" (not scored: {'; '.join(refused)})" if refused else ""
    shares = ", ".join(f"{names.system(*name)} {names.percent(share, sign=False)}" for name, share in picky.items())
    of_others = f" Requests were refused or lost, and errors there are of the others: {shares}." if picky else ""
    return f"{where}, {sentence}{left_out}.{of_others}"


def nearest_first(scores: Sequence[Score], lost: Shares = MappingProxyType({})) -> list[tuple[str, str]]:
    """Each (system, track) by its distance, the nearest first; those that refused or lost too many requests come after all others."""
    every = by_simulator(scores)
    return sorted(every, key=lambda name: (lost.get(name, 0.0) > LOST, distance(every[name]), name))


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineError:
    """How far the machine was from itself: the same steps at the beginning and at the end of its profile."""

    worst: float  # relative change, the largest of all kinds of step
    limit: float  # up to which the machine counts as repeating itself
    seconds: Mapping[str, Sequence[float]]  # by kind of step: at the beginning, at the end

    @property
    def clause(self) -> str:
        """What the verdict begins with."""
        return f"The machine's own error is {names.percent(self.worst, sign=False)}, and no simulator's error below that can be told."

    @property
    def notice(self) -> str:
        """The whole of it, for the top of what a bench prints and of the page."""
        took = [f"{kind} {names.number(1e3 * first)} and {names.number(1e3 * last)} ms" for kind, (first, last) in self.seconds.items()]
        worst = names.percent(self.worst, sign=False)
        return (
            f"The machine did not repeat itself to {100 * self.limit:g} %. The same steps at the beginning and at the end of its profile: "
            f"{', '.join(took)}. A simulator's error below {worst} may be the machine's. Quieten the machine and run again."
        )


def machine_error(measured: RunRow, simulated: Sequence[RunRow]) -> MachineError | None:
    """The machine's own error, where it is above its limit; None where it is within it or not known.

    None, too, where the calibrated runs took their step times from elsewhere than from this machine's profile.
    """
    told = measured.provenance.get("repeatability")
    parts = [run.config.get("simulator") or {} for run in simulated if run.track == "calibrated"]
    sources = {part["step_times_from"]["source"] for part in parts if part.get("step_times_from")}
    if not told or told["worst"] <= told["limit"] or (sources and "measured" not in sources):
        return None
    return MachineError(worst=told["worst"], limit=told["limit"], seconds=told["seconds"])


def drift(simulated: Sequence[RunRow]) -> str | None:
    """A sentence where a run's own steps took longer or shorter than the profile says of steps of the same composition; None where that
    is within DRIFT, or not known.

    simulated: the runs held against it; native's calibrated one tells (`profile_on_these_steps`), where the engine logged its steps.
    """
    for run in simulated:
        told = (run.config.get("simulator") or {}).get("profile_on_these_steps")
        if run.track == "calibrated" and told:
            took, says = (sum(kind[name] for kind in told.values()) for name in ("took_s", "profile_s"))
            if says > 0 and abs(took / says - 1) > DRIFT:
                amount, which = names.percent(abs(took / says - 1), sign=False), "longer" if took > says else "less"
                return (
                    f"The engine's own steps took {amount} {which} than its profile says of the same ones: "
                    "so much of every calibrated error is step time, whatever the scheduling."
                )
    return None


def too_short(run: RunRow, requests: int) -> str | None:
    """A sentence where the latencies of a run of so many requests cannot have an interval, not even their medians; None where they can."""
    needed = fewest(0.5, run.rho)
    if requests >= needed:
        return None
    if math.isinf(needed):
        return "From 100 % of capacity on latencies grow with the run, so that their errors have no interval."
    load = f" {names.load(run)}" if run.rho is not None else ""
    return f"The interval of a median latency takes {math.ceil(needed)} requests{load}; this run has {requests}."


def predictions(scores: ByKey) -> str:
    """E.g. 'predicts median TTFT 12 % too low [−15, −9.0], median TPOT within 3 %, throughput within 1 %'."""
    known = [_clause(name, scores[key]) for key, name in HEADLINES.items() if _error(scores, key) is not None]
    unknown = [name for key, name in HEADLINES.items() if _error(scores, key) is None]
    parts = [f"predicts {', '.join(known)}"] if known else []
    if unknown:
        parts.append(f"gives nothing to compare for {', '.join(unknown)}")
    return " and ".join(parts)


def _unbounded(scores: ByKey) -> dict[Key, Score]:
    return {key: dataclasses.replace(score, error_low=None, error_high=None) for key, score in scores.items()}


def _worst(scores: ByKey) -> str:
    """The headline that is furthest off; without one that can be compared, that there is none."""
    known = {key: error for key in HEADLINES if (error := _error(scores, key)) is not None}
    if not known:
        return predictions(scores)
    worst = max(known, key=lambda key: _log_ratio(known[key]))
    return f"predicts {_clause(HEADLINES[worst], scores[worst])}"


def distance(scores: ByKey) -> float:
    """Mean |ln(simulated / measured)| over the headlines, so that 3 times too low is as far off as 3 times too high."""
    known = [_log_ratio(error) for key in HEADLINES if (error := _error(scores, key)) is not None]
    return sum(known) / len(known) if known else math.inf


def _log_ratio(error: float) -> float:
    return abs(math.log1p(error)) if error > -1 else math.inf


def _clause(name: str, score: Score) -> str:
    error, low, high = score.error, score.error_low, score.error_high
    assert error is not None
    if low is None or high is None:
        return f"{name} {_lean(error)} ({names.NO_INTERVAL})"
    if high - low > WIDE:
        return f"{name} {_lean(error)}, but uncertain {names.interval(low, high)}"
    bound = max(abs(low), abs(high), abs(error))
    if low <= 0 <= high or bound <= NEAR:
        return f"{name} within {max(1, math.ceil(round(bound * 100, 6)))} %"
    return f"{name} {_lean(error)} {names.interval(low, high)}"


def _lean(error: float) -> str:
    if error >= 1:
        return f"{names.number(error + 1)} times the measured one"
    amount = names.percent(abs(error), sign=False)
    return f"{amount} too {'high' if error >= 0 else 'low'}"


def _measured(metrics: Mapping[Key, float | None]) -> str:
    shown = {key: names.shown_value(key[0], metrics.get(key)) for key in HEADLINES}
    return ", ".join(
        f"{name} is unknown" if shown[key] is None else f"{name} is {names.number(shown[key])} {names.METRICS[key[0]].unit}"
        for key, name in HEADLINES.items()
    )


def _error(scores: ByKey, key: Key) -> float | None:
    return scores[key].error if key in scores else None
