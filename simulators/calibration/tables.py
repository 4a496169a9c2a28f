"""The measured operation times of aiconfigurator-core (PyPI, Apache-2.0): Parquet tables read from its package, nothing of its code run.

Where: aiconfigurator_core/systems/data/<device>/{gemm,attention,comm}/<framework>/<version>/*_perf.parquet. Latencies are in ms; message
sizes are in 16-bit elements (NCCL's all-reduce over 8 H200 then gives 460 GB/s of bus bandwidth, as it should; as bytes it would be half).
Between the points of a table times are interpolated linearly in the logarithms of all axes and of the time (exact for power laws, and a
straight line in the plot that people look at). Outside of it there is no answer: OutsideTables.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulators.errors import NotAvailable

Floats = npt.NDArray[np.float64]

MS = 1e-3
DTYPE = "bfloat16"  # 16-bit floats take the same time
COMM_DTYPES = (DTYPE, "half")
SYSTEMS = Path("aiconfigurator_core") / "systems" / "data"


class OutsideTables(ValueError):
    """A question beyond what was measured; the message says which table and which point."""


@dataclass(frozen=True, kw_only=True)
class TableGrid:
    """A measured quantity over a rectangular grid. axes: ascending, > 0. values: s, NaN where nothing was measured. name: for messages."""

    name: str
    axes: Mapping[str, Floats]
    values: Floats

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame, axes: Sequence[str]) -> "TableGrid":
        """From rows with a `latency` in ms; the median of rows that share a point (several kernels, or repeats)."""
        times = rows.groupby(list(axes))["latency"].median() * MS
        times = times[times > 0]
        ends = {axis: np.unique(rows[axis].to_numpy(float)) for axis in axes}
        full = times.reindex(pd.MultiIndex.from_product(list(ends.values()), names=list(axes)) if len(axes) > 1 else ends[axes[0]])
        return cls(name=name, axes=ends, values=full.to_numpy(float).reshape([len(e) for e in ends.values()]))

    def at(self, **point: float) -> float:
        """s at a point, every axis named. Raises OutsideTables beyond the ends, or where a neighbour was not measured."""
        sides = [self._sides(axis, ends, point[axis]) for axis, ends in self.axes.items()]
        total = 0.0
        for corner in itertools.product(*sides):
            weight = math.prod(w for _, w in corner)
            if weight:
                value = float(self.values[tuple(i for i, _ in corner)])
                if math.isnan(value):
                    raise OutsideTables(f"{self.name} was not measured around {_say(point)}")
                total += weight * math.log(value)
        return math.exp(total)

    def _sides(self, axis: str, ends: Floats, x: float) -> tuple[tuple[int, float], ...]:
        """(index, weight) of the measured points on both sides of x."""
        if not ends[0] <= x <= ends[-1]:
            raise OutsideTables(f"{self.name} was measured for {axis} from {ends[0]:g} to {ends[-1]:g}, not for {x:g}")
        above = int(np.searchsorted(ends, x))
        if ends[above] == x:
            return ((above, 1.0),)
        share = math.log(x / ends[above - 1]) / math.log(ends[above] / ends[above - 1])
        return ((above - 1, 1 - share), (above, share))


def _say(point: Mapping[str, float]) -> str:
    return ", ".join(f"{axis} {x:g}" for axis, x in point.items())


@dataclass(frozen=True, kw_only=True)
class OperationTables:
    """All tables of one device for one framework."""

    root: Path  # the folder of the device's data
    framework: str  # the engine that they were measured with
    version: str | None  # of the engine; a table measured with it is taken, else the newest one
    heads: int  # query heads on one device
    kv_heads: int  # KV heads on one device
    head_dim: int  # elements of a head
    gpus: int  # of the collectives
    all_reduce: str  # what its kernel source ends with ('graph': in a captured CUDA graph)

    @cached_property
    def gemm(self) -> TableGrid:
        """Of a product of (m, k) by (k, n)."""
        rows, name = self._read("gemm", "gemm_perf")
        return TableGrid.of(name, rows[rows["gemm_dtype"] == DTYPE], ("m", "n", "k"))

    @cached_property
    def prompt_attention(self) -> TableGrid:
        """Of causal attention of batch_size whole prompts of `isl` tokens each to themselves."""
        rows, name = self._attention("context_attention_perf")
        return TableGrid.of(name, rows, ("batch_size", "isl"))

    @cached_property
    def decode_attention(self) -> TableGrid:
        """Of batch_size sequences, one new token each on `step` cached ones."""
        rows, name = self._attention("generation_attention_perf")
        return TableGrid.of(name, rows, ("batch_size", "step"))

    @cached_property
    def reduce(self) -> TableGrid:
        """Of an all-reduce of `message_size` elements over `gpus` devices with the framework's own kernel."""
        rows, name = self._read("comm", "custom_allreduce_perf", need={"num_gpus": self.gpus})
        chosen = rows[rows["kernel_source"].str.endswith(self.all_reduce)]
        if chosen.empty:
            raise NotAvailable(f"{name} has no kernel source that ends in {self.all_reduce!r}; it has {sorted(set(rows['kernel_source']))}")
        return TableGrid.of(name, chosen, ("message_size",))

    @cached_property
    def gather(self) -> TableGrid:
        """Of NCCL's all-gather of `message_size` elements in all."""
        rows, name = self._read("comm", "nccl_perf", need={"num_gpus": self.gpus, "op_name": "all_gather"}, framework="nccl")
        return TableGrid.of(name, rows[rows["nccl_dtype"].isin(COMM_DTYPES)], ("message_size",))

    def used(self) -> list[str]:
        """The tables that were read, by name."""
        return sorted(str(v.name) for k, v in vars(self).items() if isinstance(v, TableGrid))

    def _attention(self, file: str) -> tuple[pd.DataFrame, str]:
        need = {"num_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "kv_cache_dtype": DTYPE}
        rows, name = self._read("attention", file, need=need)
        return (rows[rows["window_size"] == 0] if "window_size" in rows else rows), name  # 0: no sliding window

    def _read(
        self, family: str, file: str, *, need: Mapping[str, object] | None = None, framework: str | None = None
    ) -> tuple[pd.DataFrame, str]:
        """The rows that are needed, of the first version that has such rows, and the table's name. Raises NotAvailable when none has."""
        need, framework = need or {}, framework or self.framework
        folder = self.root / family / framework
        found = sorted(folder.glob(f"*/{file}.parquet"), key=lambda path: (path.parent.name == self.version, _order(path.parent.name)))
        for path in reversed(found):
            rows = pd.read_parquet(path)
            if not set(need) <= set(rows.columns):
                continue
            for column, value in need.items():
                rows = rows[rows[column] == value]
            if len(rows):
                return rows, f"{self.root.name}/{family}/{framework}/{path.parent.name}/{file}"
        wanted = f" with {_text(need)}" if need else ""
        raise NotAvailable(
            f"calibration aic: {SYSTEMS / self.root.name / family / framework} has no {file}{wanted}; take another source of calibration"
        )


def _text(need: Mapping[str, object]) -> str:
    return ", ".join(f"{column} {value}" for column, value in need.items())


def _order(version: str) -> tuple[int, ...]:
    """Versions in their order: 0.9 before 0.10."""
    return tuple(int(part) for part in version.replace("post", "").split(".") if part.isdigit())
