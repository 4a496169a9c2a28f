"""What people read: names of systems, tracks and metrics, and numbers in the units they think in (milliseconds, per cent)."""

import math
from dataclasses import dataclass

from analysis.data import RunRow

SYSTEMS = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama_cpp": "llama.cpp",
    "vidur": "Vidur",
    "splitwise_sim": "Splitwise-sim",
    "distserve_sim": "DistServe-sim",
    "aisimulate": "AISimulate",
    "aisimulate_v0_1": "AISimulate 0.1",
    "aisimulate_v0_13": "AISimulate 0.13",
    "native": "Plumbline native",
    "native_replayed": "Plumbline native, replayed",
    "blis": "BLIS",
    "blis_roofline": "BLIS, roofline",
    "llmservingsim": "LLMServingSim",
    "frontier": "Frontier",
    "sglang_simulator": "SGLang's simulator",
}
LICENCES = {  # of simulators, as their repositories and packages say
    "vidur": "MIT",
    "splitwise_sim": "MIT",
    "distserve_sim": "Apache-2.0",
    "aisimulate": "Apache-2.0",
    "aisimulate_v0_1": "Apache-2.0",
    "aisimulate_v0_13": "Apache-2.0",
    "native": "Apache-2.0",
    "native_replayed": "Apache-2.0",
    "blis": "Apache-2.0",
    "blis_roofline": "Apache-2.0",
    "llmservingsim": "MIT",
    "frontier": "MIT",
    "sglang_simulator": "Apache-2.0",
}
APART = "_pd"  # ends the name of a system with prefill and decode on instances of their own


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is shown. scale: what a value in the database is multiplied by to be in `unit`."""

    label: str
    unit: str
    scale: float = 1.0


METRICS = {
    "ttft": Metric("TTFT", "ms", 1e3),
    "tpot": Metric("TPOT", "ms", 1e3),
    "itl": Metric("ITL", "ms", 1e3),
    "e2e": Metric("E2E", "ms", 1e3),
    "output_throughput": Metric("Output throughput", "tokens/s"),
    "request_rate": Metric("Request rate", "req/s"),
    "goodput": Metric("Goodput", "req/s"),
    "slo_attainment": Metric("SLO attainment", "%", 1e2),
}


def system(name: str, track: str | None = None) -> str:
    """A system as people write it, with its track in brackets; P/D: prefill and decode on instances of their own."""
    base = name.removesuffix(APART)
    shown = SYSTEMS.get(base, base) + (" P/D" if name.endswith(APART) else "")
    return f"{shown} ({track})" if track else shown


def gpu(name: str) -> str:
    """A device of conf/hardware as people write it: 'H100', 'RTX PRO 6000', 'CPU'."""
    return name.replace("_", " ").upper()


def metric(name: str, stat: str | None = None) -> str:
    """E.g. 'TTFT p99', 'Goodput'; a metric without an entry above shows its own name."""
    shown = METRICS[name].label if name in METRICS else name
    return f"{shown} {stat}" if stat else shown


def metric_with_unit(name: str, stat: str | None = None) -> str:
    """E.g. 'TTFT p99 (ms)'."""
    return f"{metric(name, stat)} ({METRICS[name].unit})" if name in METRICS else metric(name, stat)


def shown_value(name: str, value: float | None) -> float | None:
    """A value of the database in the unit in which people read it; None for unknown."""
    if value is None or not math.isfinite(value):
        return None
    return value * METRICS[name].scale if name in METRICS else value


def number(value: float | None) -> str:
    """Three significant digits, thousands set apart by a thin space; a dash for unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace(",", "\u2009")


def percent(value: float | None, *, sign: bool = True) -> str:
    """A fraction as per cent: '+12 %', '-0.4 %'; one decimal below 10 %; '×11' from 1000 % on; a dash for unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 10:
        return f"×{number(value + 1)}"
    size = abs(value) * 100
    text = f"{size:.1f}" if round(size, 1) < 10 else f"{size:.0f}"
    prefix = "" if not sign or float(text) == 0 else "−" if value < 0 else "+"
    return f"{prefix}{text} %"


def share(value: float | None) -> str:
    """A share of requests as per cent, to a tenth: near 100 % that is what tells two apart. A dash for unknown."""
    return "–" if value is None else f"{100 * value:.1f} %"


NO_INTERVAL = "no interval"


def interval(low: float | None, high: float | None) -> str:
    """In per cent, e.g. '[−15, +3.0]'; empty when unknown."""
    return "" if low is None or high is None else f"[{percent(low)}, {percent(high)}]".replace(" %", "")


def run_title(run: RunRow) -> str:
    """What was measured, e.g. 'vLLM 0.32.0 (cpu, tiny) at 60 % of capacity'."""
    version = f" {run.version}" if run.version else ""
    return f"{system(run.system)}{version} ({run.hardware}, {run.model}) {load(run)}"


def load(run: RunRow) -> str:
    """E.g. 'at 60 % of capacity', or the rate where the capacity is unknown."""
    if run.rho is not None:
        return f"at {percent(run.rho, sign=False)} of capacity"
    if run.rate is not None:
        return f"at {number(run.rate)} requests/s"
    return "at the trace's own times"
