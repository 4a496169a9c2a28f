"""How often the interval of an error is given, and how often the given one holds the true error: engines simulated twice.

Our own simulator is the engine, and again, with other step times, the simulator that is scored; both serve the same requests, so the
true error is known from a very long run. Runs of so many requests are cut out of it, each scored alone as `analysis.scoring.pairs` does.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from analysis.scoring.resampling import Resamples
from analysis.stats import STATS, Bootstrap, Values, describe
from results.record_table import RecordTable
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.perf.test_native import azure
from tests.simulators.native.cases import Linear
from workloads.columns import RequestColumns
from workloads.trace import Columns, Trace

LONG, RUNS = 300_000, 150
COUNTS = (60, 200, 500, 2000)
BOOTSTRAP = Bootstrap(resamples=300)
WRONG = {"every step 5 % too long": (1.05, 1.05), "steps 2 % too long, their tokens 10 % too cheap": (1.02, 0.9)}


@dataclass(frozen=True)
class Engine:
    """Step time: fixed + per_token * tokens (s). shrink: what the lengths of Azure's trace are divided by."""

    fixed: float
    per_token: float
    limits: Limits
    shrink: int

    def latencies(self, rate: float, requests: int, *, of_fixed: float = 1.0, of_token: float = 1.0) -> dict[str, Values]:
        """By metric, of each request."""
        law = Linear(fixed=of_fixed * self.fixed, per_token=of_token * self.per_token)
        table = RecordTable.of(serve(self.trace(rate, requests), self.limits, law, frontend=Frontend(), engine="compiled").records).columns
        arrival, first, finished, tokens = (table[name].to_numpy() for name in ("arrival", "first_token", "finished", "output_tokens"))
        return {"ttft": first - arrival, "tpot": (finished - first) / (tokens - 1), "e2e": finished - arrival}

    def trace(self, rate: float, requests: int) -> Trace:
        long = azure(requests, rate).requests
        assert isinstance(long, RequestColumns)
        whole, lengths = long.columns, ("input_tokens", "output_tokens")
        short = {name: np.maximum(2, getattr(whole, name) // self.shrink) for name in lengths}
        return Trace(name="azure", requests=RequestColumns(Columns(request_id=whole.request_id, arrival=whole.arrival, **short)))

    def capacity(self) -> float:
        finished = np.sort(self.latencies(np.inf, 4000)["e2e"])
        return float(3000 / (finished[3499] - finished[499]))


ENGINES = (
    Engine(0.010, 1.5e-4, Limits(kv_blocks=30_000, block_size=16, max_num_seqs=32, max_num_batched_tokens=1024, max_model_len=4096), 8),
    Engine(0.008, 4e-5, Limits(kv_blocks=30_000, block_size=16, max_num_seqs=128, max_num_batched_tokens=2048, max_model_len=16384), 1),
)


def outcomes(measured: Values, simulated: Values, n: int, rho: float | None) -> tuple[Values, Values]:
    """(share of the runs with an interval, share of those whose interval holds the error of the long run), by statistic."""
    truth = describe(simulated) / describe(measured) - 1
    resamples, runs = Resamples(n, BOOTSTRAP, rho), min(RUNS, len(measured) // n)
    given, right = np.zeros((2, len(STATS)))
    for first in np.linspace(0, len(measured) - n, runs).astype(int):
        sides = (resamples.describe(of[first : first + n]) for of in (measured, simulated))
        for k, found in enumerate(resamples.errors(*sides)):
            if found.low is not None and found.high is not None:
                given[k] += 1
                right[k] += found.low - 1e-12 <= truth[k] <= found.high + 1e-12
    return given / runs, right / np.maximum(given, 1)


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8, 0.9])
def test_how_often_an_interval_holds_the_truth(benchmark: Any, rho: float) -> None:
    """Medians over engines, simulators and metrics; beside them the least. With the load, and as if it were not known."""

    def measure() -> dict[tuple[int, float | None], list[tuple[Values, Values]]]:
        found: dict[tuple[int, float | None], list[tuple[Values, Values]]] = {key: [] for key in product(COUNTS, (rho, None))}
        for engine in ENGINES:
            rate = rho * engine.capacity()
            measured = engine.latencies(rate, LONG)
            for wrong, (of_fixed, of_token) in WRONG.items():
                simulated = engine.latencies(rate, LONG, of_fixed=of_fixed, of_token=of_token)
                print(f"\nrho {rho}, {wrong}: mean TTFT {simulated['ttft'].mean() / measured['ttft'].mean() - 1:+.0%}")
                for metric, (n, load) in product(measured, found):
                    found[n, load].append(outcomes(measured[metric][2000:], simulated[metric][2000:], n, load))
        return found

    for (n, load), pairs in benchmark.pedantic(measure, rounds=1).items():
        given, right = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
        told = [
            f"{stat}: {np.median(given[:, k]):.0%} given, {np.median(right[kept, k]):.0%} right (least {right[kept, k].min():.0%})"
            for k, stat in enumerate(STATS)
            if (kept := given[:, k] > 0.05).any()
        ]
        print(f"\nrho {rho}{'' if load else ' unknown'}, {n} requests: {'; '.join(told) or 'none given'}")
