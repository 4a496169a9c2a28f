"""StepLaw: step times as plain numbers, so that the readable engine and the compiled one evaluate the same law, in the same order.

    seconds = linear . (1, work) + the larger of device and host
    device  = g(new tokens) + the sum over the terms of the larger of (one . (1, work), other . (1, work))
    host    = floor . (1, work)

work: what a batch has to do in sum, in the order of WORK. g is piecewise linear and may jump: kernels work in tiles, CUDA graphs are padded
to their sizes. It has pieces of its own for steps that compute prompts, which take other kernels and other graphs. `linear` is what nothing
hides, floor what the host needs to start a step's kernels while the device computes: the device waits only where that takes longer.

A profile fills `linear` and g (`measured.py`, `stairs.py`), a roofline all of it (`roofline.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulators.native.latency.windows import windowed_work
from simulators.native.sequence import Batch

# attributes of a Batch; "mixed" steps have decodes and prefill tokens both, and `mixed_decodes` and `mixed_context` are their decodes and
# decode_context (else 0); `prompt_steps` is 1 of a step that computes prompts, else 0. Those of windows are as their namesakes, of
# attention that looks back StepLaw.reach tokens and no further (windows.py); 0 without such attention
WORK = (
    "new_tokens",
    "sequences",
    "decodes",
    "decode_context",
    "prefill_tokens",
    "prefill_context",
    "prefill_pairs",
    "mixed_context",
    "mixed_decodes",
    "prompt_steps",
    "window_context",
    "mixed_window_context",
    "window_prefill_context",
    "window_pairs",
)
(
    NEW_TOKENS,
    SEQUENCES,
    DECODES,
    DECODE_CONTEXT,
    PREFILL_TOKENS,
    PREFILL_CONTEXT,
    PREFILL_PAIRS,
    MIXED_CONTEXT,
    MIXED_DECODES,
    PROMPT_STEPS,
    WINDOW_CONTEXT,
    MIXED_WINDOW_CONTEXT,
    WINDOW_PREFILL_CONTEXT,
    WINDOW_PAIRS,
) = range(len(WORK))

Row = tuple[float, ...]
Pieces = tuple[tuple[float, float, float], ...]
FLAT: Pieces = ((0.0, 0.0, 0.0),)


def row(constant: float = 0.0, **rates: float) -> Row:
    """Seconds, and by their names the seconds per unit of parts of WORK."""
    assert rates.keys() <= set(WORK), rates
    return (constant, *(rates.get(name, 0.0) for name in WORK))


NOTHING = row()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """linear, floor, and each arm of a term: seconds, and seconds per unit of each part of WORK (made by `row`).

    pieces: of g, from the last to the first: (tokens at which it starts, seconds there, seconds per token beyond). prompt_pieces: of steps
    that compute prompts; None: the same. reach: tokens that a query attends to at most where attention has windows, itself among them;
    None: it has none.
    """

    linear: Row
    pieces: Pieces = FLAT
    prompt_pieces: Pieces | None = None
    terms: tuple[tuple[Row, Row], ...] = ()
    floor: Row = NOTHING
    reach: int | None = None

    def seconds(self, work: Sequence[float]) -> float:
        """Of a step that has this to do; it is not empty."""
        pieces = self.pieces if work[PREFILL_TOKENS] == 0 or self.prompt_pieces is None else self.prompt_pieces
        return law_seconds(work, self.linear, pieces, self.terms, self.floor)

    def of(self, batch: Batch) -> float:
        """Seconds of a batch that is not empty."""
        return self.seconds(batch.work if self.reach is None else windowed_work(batch, self.reach))


def law_seconds(work: Any, linear: Any, pieces: Any, terms: Any, floor: Any) -> float:
    """A StepLaw's seconds; pieces: those of the step's kind. Takes sequences or arrays: `fast/` compiles this very function."""
    total: float = linear[0]
    host: float = floor[0]
    for part in range(len(work)):
        total += linear[part + 1] * work[part]
        host += floor[part + 1] * work[part]
    device = 0.0
    tokens = work[0]
    for piece in pieces:
        if piece[0] < tokens:
            device += piece[1] + piece[2] * (tokens - piece[0])
            break
    for term in terms:
        one, other = term[0][0], term[1][0]
        for part in range(len(work)):
            one += term[0][part + 1] * work[part]
            other += term[1][part + 1] * work[part]
        device += max(one, other)
    return total + max(device, host)
