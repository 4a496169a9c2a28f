"""The choice of a grid found by simulating every way with 1, 2, 3, ... replicas, without bounds; and seeded cases for it."""

import numpy as np

from simulators.errors import SimulatorError
from simulators.native.planning import settings
from simulators.native.recommending.assessing import OneReplica
from simulators.native.recommending.recommend import demand_of
from simulators.native.recommending.ways import ways

MOST = 200  # replicas


def seeded_words(seed: int, *, requests: int) -> list[str]:
    """A case: model, rate and limits drawn."""
    rng = np.random.default_rng([seed, 17])
    model = rng.choice(["llama_3_1_8b", "qwen3_32b", "qwen2_5_7b"])
    hardware = rng.choice(["h100", "l40s", "a100", "b200", "rtx_5090"], 2, replace=False)
    return [
        f"model={model}",
        f"hardware=[{','.join(hardware)}]",
        "tensor_parallel=[1,2,4]",
        f"limits.max_num_seqs=[{rng.choice([32, 64])},256]",
        "limits.max_num_batched_tokens=2048",
        f"rate={rng.uniform(3, 40):.2f}",
        f"slo.ttft={rng.choice([0.3, 0.6, 1.5])}",
        f"slo.tpot={rng.choice([0.03, 0.05, 0.08])}",
        f"seed={seed}",
        f"requests={requests}",
    ]


def exhaustive(words: list[str]) -> tuple[int, int] | None:
    """The way's place in the grid and its number of replicas, by fewest devices and then by most tokens/s a user; None: nothing does."""
    tried = ways(words)
    demand = demand_of(tried[0])
    found: list[tuple[int, float, int, int]] = []
    for way in sorted(tried, key=lambda way: -int(way.cfg.tensor_parallel)):  # large engines first: beyond what they need nobody need look
        fewest = min((devices for devices, *_ in found), default=MOST)
        try:
            deployment = settings.deployment(way.cfg)
            one = OneReplica(deployment, demand)
            for replicas in range(1, fewest // deployment.devices + 1):
                if one.at(replicas).share >= demand.wanted:
                    tpot = one.judge.latencies_of(one.outcomes[replicas][0])["tpot", "p50"]
                    found.append((replicas * deployment.devices, -1 / tpot if tpot else 0.0, way.number, replicas))
                    break
        except SimulatorError:
            continue  # it does not fit
    return min(found)[2:] if found else None
