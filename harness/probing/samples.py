"""From what probes saw to the samples of a Profile: the front-end is taken off here, and nowhere else. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from results.profile import SAMPLE_COLUMNS

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

QUIET = 0.02  # share of a probe's time for which others may have had the engine's core


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One raw observation.

    Its seconds are, of a prefill, the TTFT of the prompt of prefill_context + new_tokens tokens, front-end included, and the steps of its
    first prefill_context tokens too unless they were `cached`; of decode and mixed the step; of a front-end the TTFT, a step in it; of a
    refusal the time until a prompt that is too long was turned away.
    """

    kind: str  # as in results/profile.py; also 'refusal'
    new_tokens: int = 0  # as there; of a front-end or refusal observation the prompt's length
    prefill_context: int = 0  # as there
    batch: int = 0  # as there
    context: int = 0  # as there
    seconds: float  # what the docstring says for each kind
    step: float = 0.0  # seconds of the step in a front-end's TTFT, by the stream's own period
    held_out: bool = False  # kept out of every fit
    cached: bool = False  # the first prefill_context tokens were in the prefix cache
    handover: float | None = None  # seconds per sequence of handing a step's tokens over (decode only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the `repeat`-th run of probe number `probe` saw. core_wait: share of its time for which others had the engine's core."""

    probe: int
    repeat: int
    observations: tuple[Observation, ...]
    core_wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendCost:
    """Seconds outside the steps that a request of n prompt tokens waits for its first token: fixed + per_token * (n - 1).

    step: seconds of a step of one token, by the same requests as `fixed`.
    """

    fixed: float
    per_token: float
    step: float = 0.0

    @classmethod
    def fit(cls, observations: Iterable[Observation]) -> "FrontendCost":
        """fixed: the 1-token prompts' median TTFT less their median step (a median of differences would take in the noise of both).

        per_token: the slope between the median times of the shortest and the longest refused prompts; 0 where there are no two lengths.
        """
        seen = list(observations)
        fronts = [o for o in seen if o.kind == "frontend"]
        step = _median(o.step for o in fronts) or 0.0
        fixed = (_median(o.seconds for o in fronts) or 0.0) - step
        return cls(fixed=max(0.0, fixed), per_token=max(0.0, _slope([o for o in seen if o.kind == "refusal"])), step=step)

    def of(self, prompt: int) -> float:
        """Seconds for a prompt of so many tokens."""
        return self.fixed + self.per_token * (prompt - 1)


def quiet(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Without the runs of a probe that met others on the engine's core, as far as the same probe had quieter ones.

    Chosen by what others did, never by the times that were seen, so that it pulls them neither way.
    """
    seen = [s for s in sightings if s.observations]
    least: dict[int, float] = {}
    for s in seen:
        least[s.probe] = min(least.get(s.probe, 1.0), s.core_wait or 0.0)
    return [s for s in seen if (s.core_wait or 0.0) <= max(QUIET, least[s.probe])]


def samples(sightings: Sequence[Sighting], frontend: FrontendCost) -> "pd.DataFrame":
    """The samples of a Profile, one row per observation, with a column `observed` for the seconds before anything was taken off.

    Prefill: less the front-end, and where earlier chunks are in it less the median of prompts that are just those chunks (an observation
    whose earlier chunks were never timed alone is left out). Frontend: the fixed cost. Refusals: none. Noise below 0 becomes 0.
    """
    import pandas as pd  # here: it takes long to import

    steps: dict[int, list[float]] = {0: [0.0]}  # seconds of all steps of a prompt, by its length
    for o in (o for s in sightings for o in s.observations if o.kind == "prefill" and not o.cached):
        length = o.prefill_context + o.new_tokens
        steps.setdefault(length, []).append(o.seconds - frontend.of(length))
    before = {length: float(np.median(times)) for length, times in steps.items()}
    rows = []
    for sighting in sightings:
        for o in sighting.observations:
            seconds, new = o.seconds, o.new_tokens
            if o.kind == "prefill":
                earlier = 0 if o.cached else o.prefill_context
                if earlier not in before:
                    continue
                seconds -= frontend.of(o.prefill_context + new) + before[earlier]
            elif o.kind == "frontend":
                seconds, new = seconds - frontend.step, 0
            elif o.kind == "refusal":
                continue
            rows.append((o.kind, new, o.prefill_context, o.batch, o.context, max(0.0, seconds), sighting.repeat, o.held_out, o.seconds))
    return pd.DataFrame(rows, columns=[*SAMPLE_COLUMNS, "observed"])


def diagnostics(probes: int, sightings: Sequence[Sighting], frame: "pd.DataFrame", frontend: FrontendCost) -> dict[str, Any]:
    """What else the probes say (seconds): what a simulator has no place for, and how far the samples can be trusted.

    probes: how many were planned. core_wait: share of the time of the probes used for which others had the engine's core, None where the
    kernel does not tell; noisy_runs: how many were left out for that. samples_per_point: (least, median) by kind; probe_runs: all of them.
    """
    used = quiet(sightings)
    waits = [s.core_wait for s in used if s.core_wait is not None]
    empty = sorted({s.probe for s in sightings} - {s.probe for s in sightings if s.observations})
    points = frame.groupby(["kind", "new_tokens", "prefill_context", "batch", "context"])["time"]
    spread = (points.quantile(0.75) - points.quantile(0.25)) / points.median()
    by_kind = spread.groupby(level="kind").median()
    counts = points.count().groupby(level="kind")
    return {
        "frontend_fixed": frontend.fixed,
        "frontend_per_prompt_token": frontend.per_token,
        "refusals": sum(o.kind == "refusal" for s in sightings for o in s.observations),
        "handover_per_sequence": _median(o.handover for s in sightings for o in s.observations if o.handover is not None),
        "probes": probes,
        "probes_not_run": sorted(set(range(probes)) - {s.probe for s in sightings}),
        "probes_without_result": empty,
        "probe_runs": len(sightings),
        "noisy_runs": sum(bool(s.observations) for s in sightings) - len(used),
        "core_wait": float(np.mean(waits)) if waits else None,
        "samples_per_point": {str(kind): [int(n.min()), float(n.median())] for kind, n in counts},
        "below_zero": int((frame["time"] == 0).sum()),
        "relative_iqr": {str(kind): float(iqr) for kind, iqr in by_kind.items()},
    }


def _slope(refusals: Sequence[Observation]) -> float:
    """Seconds per token, from the medians of the shortest and the longest prompts."""
    lengths = sorted({o.new_tokens for o in refusals})
    if len(lengths) < 2:
        return 0.0
    short, long = (float(np.median([o.seconds for o in refusals if o.new_tokens == n])) for n in (lengths[0], lengths[-1]))
    return (long - short) / (lengths[-1] - lengths[0])


def _median(values: Iterable[float]) -> float | None:
    numbers = np.array(list(values), dtype=np.float64)
    return float(np.median(numbers)) if len(numbers) else None
