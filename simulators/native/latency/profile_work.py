"""The samples of a profile as the law of step times sees them: their work, how well a law fits them, and what lies beyond them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import DECODES, PREFILL_TOKENS, WORK, StepLaw
from simulators.native.sequence import Batch, prefill_pairs

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

PROMPTS = "prompts"  # a column that samples may have: prompts whose tokens `new_tokens` are, in equal parts; without it, one


def works_of(samples: "pd.DataFrame", recomputed: bool) -> Array:
    """The work of samples or points of a profile, a row each, columns as in WORK: what a Batch of that composition would count."""
    new, context, decodes, under = (samples[c].to_numpy(dtype=np.float64) for c in ("new_tokens", "prefill_context", "batch", "context"))
    with_prompts = (new > 0).astype(np.float64)
    prompts = np.maximum(samples[PROMPTS].to_numpy(dtype=np.float64), 1) * with_prompts if PROMPTS in samples else with_prompts
    parts = np.maximum(prompts, 1)
    pairs = prefill_pairs(0 * context, (new + context) / parts) if recomputed else prefill_pairs(context / parts, new / parts)
    columns = {
        "new_tokens": new + decodes,
        "sequences": decodes + prompts,
        "decodes": decodes,
        "decode_context": decodes * under,
        "prefill_tokens": new,
        "prefill_context": context,
        "prefill_pairs": parts * pairs,
        "mixed_context": decodes * under * with_prompts,
        "mixed_decodes": decodes * with_prompts,
        "prompt_steps": with_prompts,
    }
    nothing = np.zeros(len(new))  # a profile's law has no windows
    return np.stack([columns.get(name, nothing) for name in WORK], axis=1)


def residuals_of(errors: Array, kinds: NDArray[Any]) -> dict[str, Any] | None:
    """Relative errors of a fit: signed mean, median and 90th percentile of the size; None without points. kinds: of each point."""
    if not len(errors):
        return None
    sizes = np.abs(errors)
    return {
        "points": len(errors),
        "mean_error": float(errors.mean()),
        "median_abs_error": float(np.median(sizes)),
        "p90_abs_error": float(np.quantile(sizes, 0.9)),
        "median_abs_error_by_kind": {str(k): float(np.median(sizes[kinds == k])) for k in sorted(set(kinds))},
    }


class RangeSeen:
    """The largest amounts of work among a profile's samples, and the steps that went beyond them.

    names: the parts of WORK that count. mixed: whether there were steps of prompts and decodes together.
    """

    def __init__(self, works: Array, names: Sequence[str], *, mixed: bool) -> None:
        self._largest_seen = {name: float(works[:, WORK.index(name)].max()) for name in names}
        self._mixed = mixed
        self._waiting: list[tuple[float, ...]] = []  # work of steps that `describe` has not counted yet
        self._steps = 0
        self._beyond: Counter[str] = Counter()
        self._largest: dict[str, float] = {}

    def later(self, work: tuple[float, ...]) -> None:
        """Count this step when `describe` is called."""
        self._waiting.append(work)

    def note(self, works: Array) -> None:
        """Count these steps."""
        self._steps += len(works)
        anywhere = np.zeros(len(works), dtype=bool)
        for name, limit in self._largest_seen.items():
            self._count(name, works[:, WORK.index(name)] / (limit or 1.0), limit=1.0 if limit else 0.0, anywhere=anywhere)
        if not self._mixed:
            mixed = (works[:, DECODES] > 0) & (works[:, PREFILL_TOKENS] > 0)
            self._count("mixed", mixed.astype(np.float64), limit=0.0, anywhere=anywhere)
        self._beyond["steps"] += int(anywhere.sum())

    def describe(self) -> Mapping[str, Any]:
        """JSON-able: how many steps were asked for, and how far beyond what was seen."""
        if self._waiting:
            self.note(np.array(self._waiting, dtype=np.float64))
            self._waiting = []
        return {
            "steps": self._steps,
            "steps_beyond_profile": self._beyond.get("steps", 0),
            "beyond": {name: {"steps": self._beyond[name], "largest_multiple": x} for name, x in self._largest.items()},
        }

    def _count(self, name: str, multiples: Array, *, limit: float, anywhere: NDArray[np.bool_]) -> None:
        beyond = multiples > limit
        if beyond.any():
            anywhere |= beyond
            self._beyond[name] += int(beyond.sum())
            self._largest[name] = max(self._largest.get(name, 0.0), float(multiples.max()))


class ProfiledStepTime:
    """A StepTime whose law comes from a profile: what all of them have. Whoever makes one sets `law` and `_seen`."""

    law: StepLaw
    _seen: RangeSeen

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        work = batch.work
        self._seen.later(work)
        return self.law.seconds(work)

    def note(self, works: Array) -> None:
        """See StepTime. Counts the steps whose composition lies beyond what the profile has seen."""
        self._seen.note(works)
