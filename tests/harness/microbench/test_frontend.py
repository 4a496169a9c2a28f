"""What an API server takes of the CPU, held to one that takes what it is told to."""

import os
from pathlib import Path

import numpy as np
import pytest

from harness.engine import Endpoint, EngineError
from harness.engines.prose_model import tokenizer
from harness.microbench.frontend import PARTS, Burst, BurstCost, ServerCost, cpu_seconds, front_processes, observe
from harness.microbench.prose import APIS, Api, ProseSender
from results.record import EngineLimits
from tests.stand_ins.burning_server import burn, burning_server

TRUTH = {"request": 0.02, "prompt_token": 1e-4, "step": 0.01, "token": 0.004}
BURSTS = [
    Burst(lots=2, together=1, input_tokens=10, output_tokens=1),
    Burst(lots=2, together=1, input_tokens=800, output_tokens=1),
    Burst(lots=1, together=1, input_tokens=10, output_tokens=12),
    Burst(lots=1, together=4, input_tokens=10, output_tokens=12),
]

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").is_file(), reason="this kernel keeps no /proc/PID/schedstat")


def endpoint(url: str) -> Endpoint:
    return Endpoint(url=url, served_model="it", system="mine", version=None, limits=EngineLimits())


def test_the_parts_are_told_apart() -> None:
    """What the stand-in itself takes, for HTTP and JSON, comes on top of what it burns."""
    words = tokenizer(2000)
    with burning_server(**TRUTH) as (url, pid):
        assert pid in front_processes(()) and pid not in front_processes((pid,))
        sender = ProseSender(endpoint(url), words, "ids")
        seen = [observe(burst, sender, {pid: "it"}, {}, settle=0.05) for _ in range(2) for burst in BURSTS]
    assert seen[3].requests == 4 and seen[3].steps == 12 and seen[3].tokens == 48 and seen[3].prompt_tokens == 40
    cost = ServerCost.fit(seen, "it")
    for part in PARTS:
        assert 0.75 * TRUTH[part] < getattr(cost, part) < 3 * TRUTH[part], part
    assert cost.residual < 0.2


@pytest.mark.parametrize("api", APIS)
def test_prompts_are_sent_in_every_form(api: Api) -> None:
    words = tokenizer(2000)
    with burning_server(0.0, 0.0, 0.0, 0.0) as (url, _):
        first, second = ProseSender(endpoint(url), words, api)(Burst(lots=2, together=1, input_tokens=50, output_tokens=3))
    assert first[1] == second[1] == 3
    assert first[0] == second[0] == 50 if api == "ids" else 5 < first[0] < 50  # the stand-in counts words


def test_a_refusal_is_an_error() -> None:
    with burning_server(0.0, 0.0, 0.0, 0.0) as (url, _), pytest.raises(EngineError, match="no stream that ends with its usage"):
        ProseSender(endpoint(f"{url}/elsewhere"), tokenizer(2000), "text")(Burst(lots=1, together=1, input_tokens=5, output_tokens=1))


def test_a_fit_finds_the_parts_of_exact_sums() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 100, (20, 4)).tolist()
    law = list(TRUTH.values())
    seen = [
        BurstCost(requests=a, prompt_tokens=b, steps=c, tokens=d, seconds={"it": float(np.dot((a, b, c, d), law))}) for a, b, c, d in rows
    ]
    cost = ServerCost.fit(seen, "it")
    assert [getattr(cost, part) for part in PARTS] == pytest.approx(law) and cost.residual == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="it: it took no CPU in 1 of 21 bursts"):
        ServerCost.fit([*seen, BurstCost(requests=1, prompt_tokens=1, steps=1, tokens=1, seconds={"it": 0.0})], "it")


def test_cpu_time_is_that_of_the_process() -> None:
    before = cpu_seconds(os.getpid())
    burn(0.1)
    assert cpu_seconds(os.getpid()) - before >= 0.1
    assert cpu_seconds(2**22 + 1) == 0.0
