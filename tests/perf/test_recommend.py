"""`./plumbline plan recommend`: how long 500 settings take, and whether its choice is that of simulating every one of them."""

import resource
from typing import Any

from simulators.native.recommending.recommend import recommend
from tests.simulators.native.recommending.exhaustive import exhaustive, seeded_words

GPUS = "hardware=[a100,h100,h200,b200,b300,l40s,rtx_5090,rtx_pro_6000]"
CASES = 20


def test_500_settings(benchmark: Any) -> None:
    """Llama-3.1-70B, eight kinds of GPU, 512 ways, 4,000 requests a simulation; target: 60 s on two cores."""
    words = ["model=llama_3_1_70b", GPUS, "limits.max_num_batched_tokens=[2048,8192]", "limits.max_num_seqs=[32,64,128,256]"]
    recommend(["model=llama_3_1_8b", "hardware=h100", "rate=5", "requests=500"])  # what is compiled and read once
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = benchmark.pedantic(recommend, args=([*words, "rate=20", "slo.ttft=1", "slo.tpot=0.05"],), rounds=1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    simulations = sum(len(one.tried) for one in found.assessed)
    print(
        f"\n{len(found.assessed)} ways, {len(found.served)} meet the SLO: {benchmark.stats.stats.min:.1f} s, {used:.1f} s of CPU, "
        f"{simulations} simulations of 4,000 requests; {sum(not one.tried for one in found.assessed)} ways ruled out without one"
    )


def test_the_choice_is_that_of_simulating_everything(benchmark: Any) -> None:
    """Target: the same in 20 of 20 seeded cases, or within 1 % of the cost."""

    def same() -> int:
        count = 0
        for seed in range(CASES):
            words = seeded_words(seed, requests=1000)
            choice = recommend(words).choice
            count += exhaustive(words) == (None if choice is None else (choice.way.number, choice.replicas))
        return count

    print(f"\nthe same choice in {benchmark.pedantic(same, rounds=1)} of {CASES} cases")
