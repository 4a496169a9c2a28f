"""StepLaw: step times as plain numbers, so that the readable engine and the compiled one evaluate the same law, in the same order.

    seconds = linear . (1, work) + g(new tokens) + the sum over the terms of the larger of (one . (1, work), other . (1, work))

work: what a batch has to do in sum, in the order of WORK. g is piecewise linear. A profile fills `linear` and g (`measured.py`), a roofline
the terms: the longer of arithmetic and memory traffic (`roofline.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# attributes of a Batch; "mixed" steps have decodes and prefill tokens both, and `mixed_context` is their decode_context (else 0)
WORK = ("new_tokens", "sequences", "decodes", "decode_context", "prefill_tokens", "prefill_context", "prefill_pairs", "mixed_context")
NEW_TOKENS, SEQUENCES, DECODES, DECODE_CONTEXT, PREFILL_TOKENS, PREFILL_CONTEXT, PREFILL_PAIRS, MIXED_CONTEXT = range(len(WORK))

Row = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """linear, and each arm of a term: seconds, and seconds per unit of each part of WORK (made by `row`).

    pieces: of g, from the last to the first: (tokens at which it starts, seconds there, seconds per token beyond).
    """

    linear: Row
    pieces: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),)
    terms: tuple[tuple[Row, Row], ...] = ()

    def seconds(self, work: Sequence[float]) -> float:
        """Of a step that has this to do; it is not empty."""
        return law_seconds(work, self.linear, self.pieces, self.terms)


def row(constant: float = 0.0, **rates: float) -> Row:
    """Seconds, and by their names the seconds per unit of parts of WORK."""
    assert rates.keys() <= set(WORK), rates
    return (constant, *(rates.get(name, 0.0) for name in WORK))


def law_seconds(work: Any, linear: Any, pieces: Any, terms: Any) -> float:
    """A StepLaw's seconds. Takes sequences or arrays: `fast/` compiles this very function."""
    total: float = linear[0]
    for part in range(len(work)):
        total += linear[part + 1] * work[part]
    tokens = work[0]
    for piece in pieces:
        if piece[0] < tokens:
            total += piece[1] + piece[2] * (tokens - piece[0])
            break
    for term in terms:
        one, other = term[0][0], term[1][0]
        for part in range(len(work)):
            one += term[0][part + 1] * work[part]
            other += term[1][part + 1] * work[part]
        total += max(one, other)
    return total
