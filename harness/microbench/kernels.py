"""The kernels that driver.py can time: plain torch's, and those of an engine's packages where they run and agree with it.

Runs in the engine's environment: nothing but torch is sure to be there.
"""

from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found]
import torch.nn.functional as nn  # type: ignore[import-not-found]
from torch.nn.attention.bias import causal_lower_right  # type: ignore[import-not-found]

TOLERANCE = 0.05  # of a kernel's answer in bfloat16 against plain torch's


class PlainKernels:
    """The layer's small operations in plain torch."""

    name = "torch"

    def norm(self, x: Any, weight: Any, epsilon: float) -> Any:
        """Root mean square norm."""
        return nn.rms_norm(x, (x.shape[-1],), weight, epsilon)

    def gate(self, x: Any) -> Any:
        """SiLU of one half times the other."""
        return nn.silu(x[..., : x.shape[-1] // 2]) * x[..., x.shape[-1] // 2 :]

    def rotate(self, positions: Any, q: Any, k: Any, head_dim: int, table: Any) -> tuple[Any, Any]:
        """Rotary embedding of the halves of each head. table: (positions, head_dim), cosines then sines."""
        cos, sin = table[positions].chunk(2, dim=-1)

        def turned(x: Any) -> Any:
            heads = x.view(x.shape[0], -1, head_dim)
            one, two = heads.chunk(2, dim=-1)
            c, s = cos[:, None, :], sin[:, None, :]
            return torch.cat((one * c - two * s, two * c + one * s), dim=-1).view_as(x)

        return turned(q), turned(k)

    def save(self, keys: Any, values: Any, cache: Any, slots: Any) -> None:
        """Put new keys and values (tokens, heads, head_dim) into the cache (2, slots, heads, head_dim)."""
        cache[0].index_copy_(0, slots, keys)
        cache[1].index_copy_(0, slots, values)


class EngineKernels(PlainKernels):
    """vLLM's own kernels, where its package is at hand."""

    name = "vllm"

    def __init__(self) -> None:
        import vllm._custom_ops  # type: ignore[import-not-found]  # noqa: F401  # it registers torch.ops._C

    def norm(self, x: Any, weight: Any, epsilon: float) -> Any:
        """See PlainKernels."""
        out = torch.empty_like(x)
        torch.ops._C.rms_norm(out, x, weight, epsilon)
        return out

    def gate(self, x: Any) -> Any:
        """See PlainKernels."""
        out = torch.empty((*x.shape[:-1], x.shape[-1] // 2), dtype=x.dtype, device=x.device)
        torch.ops._C.silu_and_mul(out, x)
        return out

    def rotate(self, positions: Any, q: Any, k: Any, head_dim: int, table: Any) -> tuple[Any, Any]:
        """See PlainKernels; in place."""
        torch.ops._C.rotary_embedding(positions, q, k, head_dim, table, True)
        return q, k


class PagedFlash:
    """vLLM's FlashAttention on its paged cache, as its engine calls it."""

    name = "vllm_flash_attn"

    def __init__(self) -> None:
        from vllm.vllm_flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]
        from vllm.vllm_flash_attn.flash_attn_interface import is_fa_version_supported  # type: ignore[import-not-found]

        self.function = flash_attn_varlen_func
        self.version = 3 if is_fa_version_supported(3) else 2
        self.name = f"vllm_flash_attn {self.version}"

    def work(self, q: Any, cache: Any, block: int, batch: int, new: int, context: int) -> Callable[[], Any]:
        """The attention of `batch` sequences with `new` tokens each behind `context` cached ones. q: (batch * new, heads, head_dim)."""
        blocks = -(-(new + context) // block)
        keys, values = (part.view(-1, block, *part.shape[1:]) for part in cache)
        table = torch.randperm(keys.shape[0], device=q.device, dtype=torch.int32)[: batch * blocks].view(batch, blocks)
        starts = torch.arange(0, batch + 1, device=q.device, dtype=torch.int32) * new
        used = torch.full((batch,), new + context, device=q.device, dtype=torch.int32)
        return lambda: self.function(
            q=q, k=keys, v=values, cu_seqlens_q=starts, max_seqlen_q=new, seqused_k=used, max_seqlen_k=new + context, causal=True,
            block_table=table, fa_version=self.version,
        )  # fmt: skip


class Flash(PagedFlash):
    """The package flash-attn, its keys and values in one piece (its own pages are larger than an engine's)."""

    def __init__(self) -> None:
        from flash_attn import flash_attn_func  # type: ignore[import-not-found]

        self.function = flash_attn_func
        self.name = "flash_attn"

    def work(self, q: Any, cache: Any, block: int, batch: int, new: int, context: int) -> Callable[[], Any]:
        """See PagedFlash."""
        length = new + context
        keys, values = (part[: batch * length].view(batch, length, *part.shape[1:]) for part in cache)
        query = q.view(batch, new, *q.shape[1:])
        return lambda: self.function(query, keys, values, causal=True)


class Sdpa(PagedFlash):
    """torch's scaled_dot_product_attention, its keys and values in one piece."""

    def __init__(self) -> None:
        self.name = "torch sdpa"

    def work(self, q: Any, cache: Any, block: int, batch: int, new: int, context: int) -> Callable[[], Any]:
        """See PagedFlash."""
        length = new + context
        keys, values = (part[: batch * length].view(batch, length, *part.shape[1:]).transpose(1, 2) for part in cache)
        if new == 1:  # the query heads that share a key are rows of one product, as the engines' kernels have it
            rows = q.view(batch, keys.shape[1], -1, q.shape[-1])
            return lambda: nn.scaled_dot_product_attention(rows, keys, values).view(q.shape)
        query = q.view(batch, new, *q.shape[1:]).transpose(1, 2)
        grouped = query.shape[1] != keys.shape[1]
        mask = None
        if context > 0:  # torch's own bias has no kernel on a CPU: there it would be written out in every call
            mask = causal_lower_right(new, length) if q.is_cuda else torch.ones((new, length), dtype=torch.bool).tril(context)

        def attend() -> Any:
            out = nn.scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=context == 0, enable_gqa=grouped)
            return out.transpose(1, 2).reshape(q.shape)

        return attend


def agree(mine: Any, theirs: Any) -> None:
    """Raise ValueError when two answers differ by more than bfloat16 explains."""
    off = (mine.float() - theirs.float().view_as(mine)).abs().max() / theirs.float().abs().max()
    if not off <= TOLERANCE:
        raise ValueError(f"differs from plain torch by {float(off):.2g} of the largest value")
