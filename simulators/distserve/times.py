"""A Profile turned into the six parameters of DistServe's simulator's step times, by fitting its own formulas.

    prefill = a + b * sum(prompt tokens) + c * sum(prompt tokens^2)
    decode  = a + b * sum(cached tokens + 1) + c * sequences, one set of a, b, c below a number of sequences and one from it on

in ms. The simulator adds constants of its own to them: 1 ms a prefill step (`PIPELINE_MS`), and 2 ms + 0.0001 ms per token a step
(`RAY_MS`). An engine's measured steps include such costs already. So `table` takes the constants off, and what the simulator computes is
the fit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from results.profile import Profile
from simulators.foreign.robust_fit import Floats, robust_fit
from simulators.foreign.step_points import prompt_time
from simulators.foreign.step_times import StepTimes

PIPELINE_MS = 1.0  # a prefill step, per pipeline stage
RAY_MS, RAY_TOKEN_MS = 2.0, 1e-4  # a step, and per prompt token (prefill) or cached token (decode) in it
ONE_REGIME = 95  # sequences: its own threshold, of no effect where both sets are the same
LEAST_POINTS, LEAST_BATCHES = 4, 2  # points that a regime needs
SPLIT_GAIN = 0.5  # share of one regime's error that two may leave at most; noise alone makes two fit a bit better
SECONDS_TO_MS = 1e3


@dataclass(frozen=True, kw_only=True)
class StageFit:
    """Coefficients (a, b, c) in s, and the number of sequences from which `large` counts."""

    prefill: Floats
    small: Floats
    large: Floats
    threshold: int

    def table(self) -> dict[str, Any]:
        """An entry of its table of step times, in ms, its own overheads taken off."""
        a, b, c = self.prefill * SECONDS_TO_MS
        return {
            "decoding_large_small_bs_threshold": self.threshold,
            "prefill": [a - PIPELINE_MS - RAY_MS, b - RAY_TOKEN_MS, c],
            # its overhead counts the cached tokens, its formula the cached tokens and one more per sequence
            **{
                name: [a - RAY_MS, b - RAY_TOKEN_MS, c + RAY_TOKEN_MS]
                for name, (a, b, c) in (("decoding_smallbs", self.small * SECONDS_TO_MS), ("decoding_largebs", self.large * SECONDS_TO_MS))
            },
        }


def fit_times(profile: Profile, times: StepTimes, *, budget: int, longest: int) -> StageFit:
    """Fit the profile's points that are not held out. Prompts longer than the engine's budget are the sums of their chunks (`times`).

    longest: tokens of the longest prompt that will be asked for.
    """
    points = profile.points(held_out=False)
    alone = points[(points["kind"] == "prefill") & (points["prefill_context"] == 0)]
    whole = [budget * chunks for chunks in range(2, -(-longest // budget) + 1)]
    tokens = np.array([*alone["new_tokens"], *whole], float)
    seconds = np.array([*alone["time"], *(prompt_time(times, n, budget) for n in whole)], float)
    prefill = robust_fit(np.stack([np.ones_like(tokens), tokens, tokens**2], axis=1), seconds)[0]

    decode = points[points["kind"] == "decode"]
    batch, context, time = (decode[column].to_numpy(float) for column in ("batch", "context", "time"))
    design = np.stack([np.ones_like(batch), batch * (context + 1), batch], axis=1)
    one, error = robust_fit(design, time)
    best = (error, one, one, ONE_REGIME)
    for threshold in np.unique(batch):
        below = batch < threshold
        if all(side.sum() >= LEAST_POINTS and len(np.unique(batch[side])) >= LEAST_BATCHES for side in (below, ~below)):
            (small, error_below), (large, error_above) = robust_fit(design[below], time[below]), robust_fit(design[~below], time[~below])
            if error_below + error_above < min(best[0], error * SPLIT_GAIN):
                best = (error_below + error_above, small, large, int(threshold))
    return StageFit(prefill=prefill, small=best[1], large=best[2], threshold=best[3])
