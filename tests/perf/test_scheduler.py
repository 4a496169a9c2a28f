"""Native's scheduler against a real vLLM server's, step by step, on 500 requests. A few minutes; `make perf` runs it, not `make test`."""

from pathlib import Path
from typing import Any

from tests.simulators.native.served_steps import Served, serve


def test_500_requests(benchmark: Any, tmp_path: Path) -> None:
    """At about what two slow cores can serve; the durations of the steps are the measured ones."""
    served: Served = benchmark.pedantic(serve, kwargs={"folder": tmp_path, "requests": 500, "rate": 5.0}, rounds=1, iterations=1)
    assert all(r.error is None for r in served.replay.records)
    steps, same = served.log.steps, served.same()
    prompts = [sum(n > 1 for n in step["tokens"]) for step in steps]
    print(
        f"\n{len(steps)} steps, {sum(p > 0 for p in prompts)} with prompts, {sum(p > 1 for p in prompts)} of them with several, "
        f"{max(len(step['ids']) for step in steps)} sequences at most; decided alike: {same:.2%}"
    )
    benchmark.extra_info["same"] = same
    assert same >= 0.99
