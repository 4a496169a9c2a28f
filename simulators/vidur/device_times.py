"""Vidur as its authors mean it: forests trained on times of single operations, measured on the very device (results/operations.py).

Its matched track takes such times where they are at hand. Nothing is fitted to the engine, so the difference to it is Vidur's own: what
the sum of the operations leaves out (embedding, output head, sampling, the host), and how the forests and the scheduler differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from results.operations import STATISTICS, Operations, stored
from results.profile import Profile
from results.record import Run
from simulators.errors import NotAvailable
from simulators.foreign.step_points import residuals
from simulators.vidur.profile_times import PROBE, probes, widened
from simulators.vidur.records import VidurStep
from simulators.vidur.tables import OPERATIONS as LINEAR
from simulators.vidur.tables import SECONDS_TO_MS, ProfileGrid, Source

SHAPE = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size")
LEAST = 24  # points of a kind: a forest trained on fewer is a stair of a few steps
KINDS = {"linear": "mlp_up_proj", "prefill": "attn_prefill", "decode": "attn_decode"}  # each told by one operation
EMPTY = ("attn_input_reshape", "attn_output_reshape")  # views: they take no time


@dataclass(frozen=True, kw_only=True)
class DeviceTimes:
    """The operation times that a run is simulated with, and the steps of the engine's own profile to hold them against (none: no rows)."""

    operations: Operations
    points: pd.DataFrame

    whole_steps: ClassVar[bool] = False

    @classmethod
    def find(cls, roots: Sequence[Path], measured: Run, profile: Profile | None) -> "DeviceTimes":
        """The newest ones of the run's device, model and parallelism. Raises NotAvailable when there are none, or too few."""
        parallel, model = measured.limits.tensor_parallel, measured.config.get("model") or {}
        for folder in reversed(stored(roots)):
            found = Operations.read(folder)
            if (found.hardware, found.tensor_parallel, _shape(found.model)) == (measured.hardware, parallel, _shape(model)):
                if parallel > 1:
                    raise NotAvailable(
                        "vidur: operation times of several devices lack the collectives, so only one device can be simulated"
                    )
                timed = {kind: len(found.of(name)) for kind, name in KINDS.items()}
                if few := [f"{n} of {found.wanted[kind]} {kind}" for kind, n in timed.items() if n < min(LEAST, found.wanted[kind])]:
                    raise NotAvailable(
                        f"vidur: the times of single operations in {folder} hold too few ({', '.join(few)} points): measure longer"
                    )
                points = pd.DataFrame(columns=["kind", *PROBE, "time", "held_out"]) if profile is None else profile.points()
                return cls(operations=found, points=points[points["kind"] != "frontend"].reset_index(drop=True))
        raise NotAvailable(
            f"vidur: no times of single operations of {measured.model} on {measured.hardware} (tensor parallel {parallel}) in "
            f"{', '.join(map(str, roots))}; the campaign's task 'operations' measures them (docs/gpu.md)"
        )

    @property
    def block_size(self) -> int:
        """Tokens of a KV block, as it was measured."""
        return self.operations.block_size

    def probes(self) -> list[dict[str, int]]:
        """The engine's measured steps, as driver.py can ask for them."""
        return probes(self.points)

    def widen(self, grid: ProfileGrid) -> ProfileGrid:
        """A grid that covers the engine's measured steps too, so that every one of them can be predicted."""
        return widened(grid, self.points)

    def tables(self, grid: ProfileGrid, layers: int, source: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
        """mlp.csv and attention.csv, without the columns that name the model; whatever grid and source, as Vidur's scripts write."""
        return self.linear(), self.attention()

    def linear(self) -> pd.DataFrame:
        """mlp.csv without its model columns: a row per number of tokens, ms."""
        rows = self.operations.of("emb", *LINEAR)
        return _wide(rows[rows["batch"] == 0], {"tokens": "num_tokens"})

    def attention(self) -> pd.DataFrame:
        """attention.csv without its model columns: a row per point, ms; contexts as its authors' scripts write them, without the chunk."""
        rows = self.operations.of("attn_prefill", "attn_decode", "attn_kv_cache_save")
        keys = {"batch": "batch_size", "chunk": "prefill_chunk_size", "context": "kv_cache_size"}
        wide = _wide(rows, keys)
        return wide.assign(is_prefill=wide["prefill_chunk_size"] > 0, **{f"time_stats.{name}.median": 0.0 for name in EMPTY}).fillna(0.0)

    def summary(self, predicted: Sequence[float], steps: Sequence[VidurStep]) -> dict[str, Any]:
        """What a run keeps of it, JSON-able. predicted: s per probe.

        steps_outside: how many of the simulated steps lie beyond what was timed, where the forests stay flat. residuals: of Vidur's steps
        against the engine's own profile, nothing of which it was trained on.
        """
        ends = self.ends()
        outside = [
            s.prefill_tokens + s.batch > ends["tokens"]
            or s.prefill_tokens > ends["chunk"]
            or s.prefill_context > ends["prefill_context"]
            or s.batch > ends["batch"]
            or s.context > ends["context"]
            for s in steps
        ]
        return {
            "operations": self.operations.operations_id,
            "kernels": dict(self.operations.kernels),
            "points": {k: {"timed": len(self.operations.of(name)), "wanted": self.operations.wanted[k]} for k, name in KINDS.items()},
            "timed_up_to": ends,
            "residuals": residuals(self.points, predicted) if len(self.points) else None,
            "steps": len(steps),
            "steps_outside": sum(outside),
        }

    def ends(self) -> Mapping[str, int]:
        """The largest of each axis that was timed."""
        linear, prompts, decodes = (self.operations.of(name) for name in KINDS.values())
        return {
            "tokens": int(linear["tokens"].max()),
            "chunk": int(prompts["chunk"].max()),
            "prefill_context": int(prompts["context"].max()),
            "batch": int(decodes["batch"].max()),
            "context": int(decodes["context"].max()),
        }


def _shape(model: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a config.json the times depend on."""
    heads = model.get("num_attention_heads")
    told = {"num_key_value_heads": heads, "head_dim": model.get("hidden_size", 0) // heads if heads else None} | {
        key: value for key, value in model.items() if value is not None
    }
    return tuple(told.get(name) for name in SHAPE)


def _wide(rows: pd.DataFrame, keys: Mapping[str, str]) -> pd.DataFrame:
    """A row per point and a column per operation and statistic, in Vidur's names and ms."""
    wide = rows.pivot_table(index=list(keys), columns="operation", values=list(STATISTICS)) * SECONDS_TO_MS
    wide.columns = pd.Index([f"time_stats.{column[1]}.{column[0]}" for column in wide.columns])
    return wide.reset_index().rename(columns=dict(keys))
