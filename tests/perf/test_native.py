"""How fast our own simulator is: requests simulated per second of one core, on 2,000 requests of Azure-conv-like lengths at rho ~0.8."""

from typing import Any

import numpy as np
import pytest

from simulators.native.scheduler import Limits
from simulators.native.serve import Frontend, Served, serve
from tests.simulators.native.cases import Linear
from workloads.trace import Request, Trace

REQUESTS = 2000
STEP_TIME = Linear(fixed=0.008, per_token=4e-5)
LIMITS = Limits(kv_blocks=30_000, block_size=16, max_num_seqs=256, max_num_batched_tokens=2048, max_model_len=8192)


def azure_like(rate: float) -> Trace:
    """Mean 1,150 tokens in and 210 out, lognormal, as in the Azure conversation trace of 2023."""
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(1 / rate, REQUESTS))
    inputs = np.clip(rng.lognormal(6.55, 1.0, REQUESTS), 8, 6000).astype(int)
    outputs = np.clip(rng.lognormal(5.0, 0.8, REQUESTS), 2, 1000).astype(int)
    rows = zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    return Trace(
        name="azure_like",
        requests=tuple(Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m) for i, (a, n, m) in enumerate(rows)),
    )


@pytest.mark.parametrize("in_flight", [1, 2])
def test_requests_per_second(benchmark: Any, in_flight: int) -> None:
    trace = azure_like(rate=12.0)
    limits = Limits(**{name: getattr(LIMITS, name) for name in LIMITS.__dataclass_fields__} | {"in_flight": in_flight})

    def simulate() -> Served:
        return serve(trace, limits, STEP_TIME, frontend=Frontend())

    served = benchmark.pedantic(simulate, rounds=5, warmup_rounds=1)
    tokens = sum(r.output_tokens or 0 for r in served.records)
    best = benchmark.stats.stats.min
    benchmark.extra_info.update(requests_per_s=REQUESTS / best, tokens_per_s=tokens / best, steps=served.steps)
    print(
        f"\nin_flight {in_flight}: {REQUESTS / best:.0f} requests/s, {tokens / best:.0f} output tokens/s, {served.steps / best:.0f} steps/s"
    )
