"""AttentionTimes: times of grouped-query attention of prompts and of decodes, on whole contexts and in sliding windows.

Tables context_attention_perf (batch_size whole prompts of `isl` tokens, causal) and generation_attention_perf (batch_size sequences, one
new token each on `step` cached ones), by num_heads and num_key_value_heads on one device, head_dim, kv_cache_dtype and window_size (0, or
no such column: none). A window that was not measured is taken from the table of whole contexts: a decode reads no more than the window,
and a chunk takes the share of the query-key pairs that it computes.
"""

from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import OutsideTables, TableGrid
from simulators.errors import NotAvailable

DTYPE = "bfloat16"
PROMPTS, DECODES = "context_attention_perf", "generation_attention_perf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Whose attention it is, on one device."""

    queries: int  # heads of the queries
    kv: int  # heads of the keys and values
    dim: int  # elements of a head
    kv_dtype: str = DTYPE  # of the cache, as in the tables' kv_cache_dtype
    window: int | None = None  # tokens that a query sees at most; None: all before it


@dataclass(frozen=True, kw_only=True)
class AttentionTimes:
    """Of one layer on one device."""

    prompts: TableGrid  # over batch_size, isl
    decodes: TableGrid  # over batch_size, step
    window: int | None = None  # tokens that a query sees at most
    measured_window: int | None = None  # that of the tables; None: whole contexts

    @classmethod
    def read(cls, files: TableFiles, heads: Heads) -> "AttentionTimes":
        """Raises NotAvailable where the device has no such heads."""
        if heads.window is not None:
            with suppress(NotAvailable):
                return cls._read(files, heads, heads.window)
        return cls._read(files, heads, None)

    @classmethod
    def _read(cls, files: TableFiles, heads: Heads, window: int | None) -> "AttentionTimes":
        prompts, decodes = _rows(files, PROMPTS, heads, window), _rows(files, DECODES, heads, window)
        return cls(
            prompts=TableGrid.of(prompts[1], prompts[0], ("batch_size", "isl")),
            decodes=TableGrid.of(decodes[1], decodes[0], ("batch_size", "step")),
            window=heads.window,
            measured_window=window,
        )

    def prompt(self, new: int, cached: int) -> float:
        """s of a chunk: that of the whole prompt so far, times the share of its query-key pairs in the chunk. Raises OutsideTables.

        The tables have whole prompts only; AIConfigurator takes the same share (prefix_correction of its operators/attention.rs).
        """
        return self._last(new, cached, batch=1)

    def decode(self, batch: int, context: int) -> float:
        """s of `batch` sequences, one new token each on `context`. Raises OutsideTables."""
        seen = context if self.window is None or self.measured_window else min(context, self.window)
        return self.decodes.at(batch_size=batch, step=seen)

    def tiles(self, batch: int, context: int, tile: int) -> float:
        """s of the last `tile` tokens of each of `batch` prompts, on `context` tokens before them. Raises OutsideTables.

        From a table of batches of whole prompts. A batch larger than the table is taken in equal parts.
        """
        *larger, least = [float(batch), *(float(b) for b in self.prompts.axes["batch_size"][::-1] if b < batch)]
        for part in larger:
            with suppress(OutsideTables):
                return batch / part * self._last(tile, context, part)
        return batch / least * self._last(tile, context, least)

    def _last(self, new: int, cached: int, batch: float) -> float:
        """s of the last `new` tokens of each of `batch` prompts; what lies before the window costs nothing."""
        before = cached if self.window is None else min(cached, self.window)
        total = new + before
        share = (_pairs(total, self.window) - _pairs(before, self.window)) / _pairs(total, self.measured_window)
        return self.prompts.at(batch_size=batch, isl=total) * share


def _pairs(tokens: float, window: int | None) -> float:
    """Query-key pairs of a causal prompt, in a window where there is one."""
    seen = tokens if window is None else min(tokens, window)
    return seen * seen / 2 + seen * (tokens - seen)


def _rows(files: TableFiles, file: str, heads: Heads, window: int | None) -> tuple[pd.DataFrame, str]:
    need = {"num_heads": heads.queries, "num_key_value_heads": heads.kv, "head_dim": heads.dim, "kv_cache_dtype": heads.kv_dtype}
    if window is not None:
        return files.read("attention", file, {**need, "window_size": window})
    rows, name = files.read("attention", file, need)
    return (rows[rows["window_size"] == 0] if "window_size" in rows else rows), name
