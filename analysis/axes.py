"""Logarithmic axes that people can read: of latencies, and of simulated over measured."""

import math
from collections.abc import Sequence
from typing import Any

from analysis.stats import Values

LOG_STEPS = (  # ticks of a decade, from fine to coarse: the first that leaves room on a phone is taken
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)
RATIO_TICKS = {
    1 / 100: "÷100", 1 / 10: "÷10", 1 / 5: "÷5", 1 / 3: "÷3", 0.5: "÷2", 0.7: "−30 %", 0.8: "−20 %", 0.9: "−10 %", 0.95: "−5 %", 1: "0",
    1.05: "+5 %", 1.1: "+10 %", 1.2: "+20 %", 1.4: "+40 %", 2: "×2", 3: "×3", 5: "×5", 10: "×10", 100: "×100",
}  # fmt: skip


def log_axis(values: Sequence[float] | Values) -> dict[str, Any]:
    """A log axis with a few ticks over the values' range, each with its whole number (plotly's own shows bare digits, or too many)."""
    low, high = (float(min(values)), float(max(values))) if len(values) else (1.0, 10.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in LOG_STEPS:
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= 6:
            break
    if len(ticks) < 2 and high > low:  # less than a step apart
        step = 10.0 ** math.floor(math.log10(high - low))
        ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return {"type": "log", "tickvals": ticks[:: 1 + (len(ticks) - 1) // 6] or [low], "tickformat": ",.3~r"}


def ratio_axis(errors: Sequence[float]) -> dict[str, Any]:
    """A log axis of simulated / measured, at least 15 % wide on both sides of 1, that reads as an error."""
    reach = max([math.log(1.15), *(1.15 * abs(math.log(max(1e-3, 1 + error))) for error in errors)]) / math.log(10)
    ticks = {ratio: text for ratio, text in RATIO_TICKS.items() if abs(math.log10(ratio)) <= reach}
    if len(ticks) > 7:  # keep those that stay apart on a phone
        ticks = {ratio: text for ratio, text in ticks.items() if ratio == 1 or abs(math.log10(ratio)) > reach / 5}
    return {"type": "log", "range": [-reach, reach], "tickvals": list(ticks), "ticktext": list(ticks.values())}
