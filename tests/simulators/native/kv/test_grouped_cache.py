"""KV memory of several kinds of layers: one group alone is the plain cache, windows give back blocks, a state is one block."""

import dataclasses
from typing import Any

import pytest

from simulators.errors import NotAvailable
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.kv.groups import KVGroup, grouped
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Linear, our_steps, random_case
from tests.simulators.native.scheduling.test_policies import requests
from workloads.trace import Request, Trace

ALL, WINDOW, STATE = KVGroup(), KVGroup(window=64), KVGroup(state=True)
LIMITS = Limits(kv_blocks=400, block_size=16, max_num_seqs=8, max_num_batched_tokens=128, max_model_len=2048, prefix_caching=False)


def served(*groups: KVGroup, trace: Trace | None = None, **changes: Any) -> Served:
    limits = dataclasses.replace(LIMITS, kv_groups=groups, **changes)
    return serve(trace or requests((0.0, 1000, 200)), limits, Linear(fixed=0.01), frontend=Frontend())


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_one_group_of_all_layers_is_the_plain_cache(seed: int) -> None:
    case = random_case(seed)
    alone = dataclasses.replace(case, limits=dataclasses.replace(case.limits, kv_groups=(ALL,)))
    assert our_steps(alone) == our_steps(case)


def test_blocks_that_are_held_at_most() -> None:
    """1,199 tokens in blocks of 16: 75. A window of 64 and a step of 128: (63 + 128) / 16, and one more; a state: one."""
    assert served(ALL).peak_kv_blocks == 75
    assert served(ALL, ALL).peak_kv_blocks == 150
    assert served(STATE).peak_kv_blocks == 1
    assert 9 <= served(WINDOW).peak_kv_blocks <= 13
    assert 75 + 2 * 4 + 1 <= served(ALL, WINDOW, WINDOW, STATE).peak_kv_blocks <= 75 + 2 * 13 + 1


def test_a_window_lets_more_requests_run_at_once() -> None:
    trace = requests(*[(0.0, 900, 100)] * 8)

    def end(*groups: KVGroup) -> float:
        return served(*groups, trace=trace, kv_blocks=150).end

    assert end(WINDOW, WINDOW) < end(ALL, WINDOW) < end(ALL, ALL)


def test_a_prefix_is_found_where_one_window_of_it_is_left() -> None:
    """The second request shares 640 tokens: in layers with a window the last blocks are enough, and both kinds must have theirs."""
    blocks = tuple(range(40))
    both = tuple(Request(request_id=i, arrival=40.0 * i, input_tokens=700, output_tokens=4, blocks=blocks) for i in range(2))
    trace = Trace(name="shared", requests=both, block_size=16)
    for groups in ((ALL,), (ALL, WINDOW), (WINDOW,)):
        first, second = served(*groups, trace=trace, prefix_caching=True).records
        assert (first.cached_tokens, second.cached_tokens) == (0, 640)


def test_a_request_is_refused_by_what_all_groups_need() -> None:
    fits, too_long = served(ALL, ALL, trace=requests((0.0, 700, 50), (0.0, 1300, 50)), kv_blocks=100).records
    assert fits.error is None and too_long.error is not None and "do not fit the KV cache" in too_long.error
    assert served(ALL, STATE, trace=requests((0.0, 1300, 50)), kv_blocks=100).records[0].error is None


@pytest.mark.parametrize(
    ("layers", "groups", "size"),
    [
        (
            {KVGroup(window=1024): 52, ALL: 10},
            7,
            10,
        ),  # Gemma 3 27B: the last group of windows is padded
        ({KVGroup(window=128): 12, ALL: 12}, 2, 12),  # gpt-oss-20b
        ({KVGroup(window=128): 12, ALL: 13}, 2, 13),  # the same with an EAGLE drafter: the case that vLLM's own comment names
        ({ALL: 32}, 1, 32),
        ({STATE: 36, ALL: 12}, 4, 12),  # Qwen3-Next: three gated delta nets to one attention
    ],
)
def test_layers_are_put_into_groups_as_vllm_does(layers: Any, groups: int, size: int) -> None:
    made, layers_of_each = grouped(layers)
    assert made[0] == next(iter(layers)) and (len(made), layers_of_each) == (groups, size)


def test_what_groups_cannot_have_is_one_line() -> None:
    with pytest.raises(ValueError, match="prefix_caching must be off"):
        served(STATE, prefix_caching=True)
    with pytest.raises(ValueError, match="rule kept_tokens out"):
        served(ALL, kept_tokens=8)
    with pytest.raises(ValueError, match="prefix caching beside a drafter"):
        served(ALL, WINDOW, prefix_caching=True, speculation=Speculation(num_speculative_tokens=2, acceptance_rate=0.5))
    with pytest.raises(ValueError, match="a window of >= 1 tokens, or a state"):
        KVGroup(window=0)
    with pytest.raises(ValueError, match="without layers"):
        grouped({})
    with pytest.raises(NotAvailable, match="llumnix hands over the KV of one group"):
        limits = dataclasses.replace(LIMITS, kv_groups=(ALL, WINDOW))
        moving = Arrangement(kind="llumnix", instances=2, link_gb_s=1.0)
        moving.serve(requests((0.0, 10, 2)), limits, Linear(fixed=0.01), frontend=Frontend(), kv_bytes_per_token=1.0)
