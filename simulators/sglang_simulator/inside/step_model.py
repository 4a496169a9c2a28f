"""Step times in the form that the simulator's predictor `ml` takes: an object whose predict() maps its features of a step to seconds.

It is pickled by driver.py and loaded in the process of SGLang's scheduler, so nothing of this project is imported here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BATCH, NEW, PAST, ATTENDED, IS_DECODE = 0, 1, 4, 10, 16  # places in the simulator's list of features


@dataclass(frozen=True)
class StepModel:
    """s of a step by counts. prefill_base, prefill_unit: by its new tokens; decode_base, decode_unit: by its sequences.

    base: s at no context. unit: s per new token and token that it attends to, or per cached token of all sequences. What is counted beyond
    their ends has no time: an IndexError.
    """

    prefill_base: Sequence[float]
    prefill_unit: Sequence[float]
    decode_base: Sequence[float]
    decode_unit: Sequence[float]
    least: float  # s that a step takes at least

    def predict(self, steps: Sequence[Sequence[float]]) -> list[float]:
        """Seconds of each step. steps: 18 features each, as the simulator makes them."""
        return [max(self.least, self._decode(step) if step[IS_DECODE] else self._prefill(step)) for step in steps]

    def _prefill(self, step: Sequence[float]) -> float:
        tokens = int(step[NEW])
        return self.prefill_base[tokens] + self.prefill_unit[tokens] * step[ATTENDED]

    def _decode(self, step: Sequence[float]) -> float:
        batch = int(step[BATCH])
        return self.decode_base[batch] + self.decode_unit[batch] * step[PAST]
