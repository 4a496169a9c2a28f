"""Step times with stairs: the law for a profile that has an engine's own steps by the thousand (a step log).

    seconds = level(tokens) + d * decodes + c * decode context                                              of a step of decodes alone
    seconds = level'(tokens) + t * tokens + (d + d') * decodes + (c + c') * decode context + p * prompts
              + r * prefill context + a * prefill query-key pairs                                           of a step that computes prompts

A GPU's steps do not grow smoothly: a CUDA graph is replayed at the size that it was captured with, so all batches between two sizes take
the same time (vLLM pads to 1, 2, 4, 8, 16, 24, ...: `_set_cudagraph_sizes` of its VllmConfig), and a matrix product takes whole tiles
of 128 rows (NVIDIA, Matrix Multiplication Background User's Guide, tile quantization). Each stair that holds LEAST steps has a level of
its own, which may lie below the one before: kernels change with the size. A stair with fewer lies on the line between its neighbours;
beyond the last, levels go on as they rose over the upper half. d' and c' are FlashAttention 2's: beside a prompt, each decode takes a
whole tile of queries, and reads its context once a query head (docs/findings/decodes-beside-prompts.md). All but the levels are >= 0.

The fit is MeasuredStepTime's: least squares on relative errors, outliers reweighted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.profile import Profile
from simulators.errors import SimulatorError
from simulators.native.latency.given import STEP_LAW, GivenStepTime
from simulators.native.latency.measured import MeasuredStepTime, fit
from simulators.native.latency.profile_work import ProfiledStepTime, RangeSeen, residuals_of, works_of
from simulators.native.latency.step_law import DECODES, NEW_TOKENS, PROMPT_STEPS, SEQUENCES, WORK, Pieces, StepLaw, row
from simulators.native.latency.step_time import StepTime

Array = NDArray[np.float64]

EVERY_STEP = "every_step"  # true in the provenance of a profile whose samples are an engine's own steps: this law is then fitted to them
LEAST = 5  # steps that a stair needs for a level of its own
DECODE_SIZES = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))  # of captured graphs
PROMPT_SIZES = (8, 16, 24, 32, 48, 64)  # the same, and tiles; beyond them TILE by TILE
TILE = 128
FEATURES = ("decodes", "decode_context", "mixed_decodes", "mixed_context", "prefill_context", "prefill_pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stairs:
    """Of one kind of step: those that have a level of their own."""

    sizes: tuple[float, ...]  # tokens, at which each ends
    levels: tuple[float, ...]  # s of each
    slope: float  # s per token on every stair

    def pieces(self, ends: Sequence[float]) -> Pieces:
        """As a StepLaw has them. ends: of all stairs, those without a level too; the last is at least the last size."""
        starts = (0.0, *ends[:-1])
        levels = np.interp(ends, self.sizes, self.levels)
        known = [
            (s, float(level) + self.slope * s, self.slope) for s, e, level in zip(starts, ends, levels, strict=True) if e <= self.sizes[-1]
        ]
        last = self.sizes[-1]
        beyond = (last, self.levels[-1] + self.slope * last, self.slope + self._rise())
        return (beyond, *known[::-1])

    def _rise(self) -> float:
        """Seconds per token by which the levels of the upper half of the sizes rise, at least 0."""
        upper = [(s, level) for s, level in zip(self.sizes, self.levels, strict=True) if s >= self.sizes[-1] / 2]
        if len(upper) < 2:
            return 0.0
        return max(0.0, float(np.polyfit([s for s, _ in upper], [level for _, level in upper], 1)[0]))


class StairsStepTime(ProfiledStepTime):
    """A StepTime fitted to a profile of an engine's own steps. Raises SimulatorError when it has too few of a kind.

    recomputed: attention of a chunk is computed over the cached context's queries, too (Batch.count_prefill).
    """

    def __init__(self, profile: Profile, *, recomputed: bool = False) -> None:
        steps = profile.samples
        steps = steps[(steps["kind"] != "frontend") & (steps["time"] > 0)]
        held_out = steps["held_out"].to_numpy(dtype=bool)
        works, seconds = works_of(steps, recomputed), steps["time"].to_numpy(dtype=np.float64)
        self.profile_id = profile.profile_id
        try:
            self.law = fitted_law(works[~held_out], seconds[~held_out])
        except ValueError as error:
            raise SimulatorError(f"native: profile {profile.profile_id}: {error}") from error
        kinds = steps["kind"].to_numpy()
        errors = np.array([self.law.seconds(work) for work in works.tolist()]) / seconds - 1
        self._residuals = {
            "fitted": residuals_of(errors[~held_out], kinds[~held_out]),
            "held_out": residuals_of(errors[held_out], kinds[held_out]),
        }
        self._seen = RangeSeen(
            works[~held_out], ("new_tokens", "sequences", *FEATURES[1:2], *FEATURES[3:]), mixed=bool((kinds == "mixed").any())
        )

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        rates = dict(zip(WORK, self.law.linear[1:], strict=True))
        return {
            "step_time": "stairs",
            "profile": self.profile_id,
            "decode_stairs": [list(piece) for piece in self.law.pieces[::-1]],
            "prompt_stairs": [list(piece) for piece in (self.law.prompt_pieces or ())[::-1]],
            **{f"s_per_{name}": rate for name, rate in rates.items() if rate},
            "residuals": self._residuals,
            **self._seen.describe(),
        }


def profiled(profile: Profile, *, apart: bool = False, recomputed: bool = False) -> StepTime:
    """The step times that a profile has: its own law where it brings one (STEP_LAW), a law with stairs where it says EVERY_STEP, else
    MeasuredStepTime's, which see for the settings.
    """
    if profile.provenance.get(STEP_LAW):
        return GivenStepTime(profile)
    if profile.provenance.get(EVERY_STEP):
        return StairsStepTime(profile, recomputed=recomputed)
    return MeasuredStepTime(profile, apart=apart, recomputed=recomputed)


def fitted_law(works: Array, seconds: Array) -> StepLaw:
    """The law of steps that had this to do (a row each, columns as in WORK) and took so long. Raises ValueError with too few of a kind."""
    prompts = works[:, PROMPT_STEPS] > 0
    tokens = works[:, NEW_TOKENS]
    ends = {False: _ends(DECODE_SIZES, tokens[~prompts]), True: _ends(PROMPT_SIZES, tokens[prompts], TILE)}
    stair = np.where(prompts, np.searchsorted(ends[True], tokens) + len(ends[False]), np.searchsorted(ends[False], tokens))
    counts = np.bincount(stair, minlength=len(ends[False]) + len(ends[True]))
    kept = np.flatnonzero(counts >= LEAST)
    on_decodes = kept < len(ends[False])
    for kind, mine in (("decode", on_decodes), ("prompt", ~on_decodes)):
        if not mine.any():
            raise ValueError(f"no {LEAST} steps of one size among its {kind} steps; a law with stairs needs a longer log")
    used = np.isin(stair, kept)
    on_stair = (stair[used, None] == kept).astype(np.float64)
    features = [WORK.index(name) for name in FEATURES]
    count = (works[:, SEQUENCES] - works[:, DECODES])[used, None]
    if np.ptp(count[prompts[used]]) == 0:  # one prompt in every such step: then no step tells it from the levels
        count = np.zeros_like(count)
    ramp = (tokens * prompts)[used, None]
    design = np.hstack([on_stair, ramp, count, works[used][:, features]])
    levels, (slope, by_prompt), rates = np.split(fit(design, seconds[used], range(len(kept))), [len(kept), len(kept) + 2])
    by_feature = dict(zip(FEATURES, (float(r) for r in rates), strict=True))
    by_feature["decodes"] -= float(by_prompt)  # a row counts sequences: prompts and decodes together
    made = []
    for which, mine in ((False, on_decodes), (True, ~on_decodes)):
        sizes = [ends[which][k - which * len(ends[False])] for k in kept[mine]]
        stairs = Stairs(sizes=tuple(sizes), levels=tuple(levels[mine].tolist()), slope=float(slope) if which else 0.0)
        made.append(stairs.pieces(ends[which]))
    return StepLaw(linear=row(sequences=float(by_prompt), **by_feature), pieces=made[0], prompt_pieces=made[1])


def _ends(sizes: Sequence[int], tokens: Array, tile: int | None = None) -> list[float]:
    """The ends of the stairs up to the largest step: `sizes`, and beyond them multiples of `tile`, or else the largest step itself."""
    largest = float(tokens.max(initial=1))
    ends = [float(s) for s in sizes]
    if tile:
        ends += [float(t) for t in range(tile, int(largest) + tile, tile)]
    elif largest > ends[-1]:
        ends.append(largest)
    return ends
