"""The bounds hold: nothing that was simulated is better than they allow, and they are near enough to be of use."""

import numpy as np
import pytest

from results.record import SLO
from simulators.native.planning import settings
from simulators.native.planning.deployment import Deployment, at_rate
from simulators.native.planning.judge import Judge
from simulators.native.recommending.bounds import MARGIN, bound
from workloads.trace import Request, Trace

WANTED = 0.9


def trace(seed: int, number: int = 240, *, rate: float = 10.0, shared: bool = False) -> Trace:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, number))
    inputs = np.clip(rng.lognormal(6.3, 1.2, number), 1, 7000).astype(int)
    outputs = np.clip(rng.lognormal(4.3, 1.0, number), 1, 900).astype(int)
    rows = zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    made = [
        Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m, blocks=tuple(range(n // 16)) if shared else ())
        for i, (a, n, m) in enumerate(rows)
    ]
    return Trace(name="lognormal", requests=tuple(made), block_size=16 if shared else None)


def deployment(seed: int, *words: str) -> Deployment:
    rng = np.random.default_rng([seed, 1])
    model = rng.choice(["llama_3_1_8b", "qwen3_30b_a3b", "gemma_3_27b", "qwen3_32b"])
    drawn = [
        f"model={model}",
        f"hardware={rng.choice(['h100', 'l40s', 'b200', 'a100'])}",
        f"tensor_parallel={rng.choice([2, 4])}",
        f"limits.max_num_batched_tokens={rng.choice([256, 2048, 8192])}",
        f"limits.max_num_seqs={rng.choice([4, 32, 256])}",
    ]
    return settings.deployment(settings.settings([*drawn, *words]))


def ceiling(made: Deployment, asked: Trace, slo: SLO, wanted: float) -> int | None:
    limits = made.limits(asked)
    law = made.step_time(asked, limits).law
    assert law is not None
    return bound(asked, limits, law, slo, wanted, queue=True).replicas


@pytest.mark.parametrize("seed", range(12))
def test_what_meets_the_slo_in_a_simulation_is_never_ruled_out(seed: int) -> None:
    """Of random engines, loads and limits: with one replica fewer than the bound says the simulation must fail, too."""
    words = ["speculation.num_speculative_tokens=2", "speculation.acceptance_rate=1"] if seed % 4 == 3 else []
    made, asked = deployment(seed, *words), trace(seed, shared=seed % 5 == 4)
    rng = np.random.default_rng([seed, 2])
    for _ in range(4):
        rate, slo = float(10 ** rng.uniform(0, 2.3)), SLO(ttft=float(10 ** rng.uniform(-1.3, 0.5)), tpot=float(10 ** rng.uniform(-2.2, -1)))
        at = at_rate(asked, rate)
        judge = Judge(made, lambda _, __, at=at: at, slo, wanted=WANTED, precision=1.0, lengths=(240, 240))  # type: ignore[misc]
        share = judge.attainment(rate, len(asked)).share
        if share > 0:
            allowed = ceiling(made, at, slo, share)
            assert allowed == 1, (rate, slo, share, allowed)


def test_a_lone_request_takes_about_what_the_bound_says() -> None:
    """So it prunes: of a request alone it is no more than a few per cent below."""
    made = settings.deployment(settings.settings(["model=llama_3_1_70b", "hardware=h100", "tensor_parallel=4"]))
    one = Trace(name="one", requests=(Request(request_id=0, arrival=0.0, input_tokens=3000, output_tokens=200),))
    (record,) = made.serve(one).served.records
    took = (record.finished or 0.0) - record.arrival
    half = SLO(ttft=took / 10, tpot=0.001)
    assert ceiling(made, one, SLO(e2e=took), WANTED) == 1 and ceiling(made, one, half, WANTED) is None
    assert ceiling(made, one, SLO(e2e=took * MARGIN * 0.95), WANTED) is None


def test_an_engine_that_has_too_much_to_do_is_ruled_out_before_it_is_simulated() -> None:
    made = settings.deployment(settings.settings(["model=llama_3_1_8b", "hardware=l4", "limits.max_num_seqs=16"]))
    asked = trace(5, 2000, rate=50.0)
    least = ceiling(made, asked, SLO(ttft=2.0, tpot=0.2), WANTED)
    assert least is not None and least >= 8
    assert ceiling(made, at_rate(asked, 500.0), SLO(ttft=2.0, tpot=0.2), WANTED) == pytest.approx(10 * least, rel=0.2)
