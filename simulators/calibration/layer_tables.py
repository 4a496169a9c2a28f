"""LLMServingSim's profile of a model on a GPU: how long each layer took in a real vLLM, read from a clone of its repository.

Where (github.com/casys-kaist/LLMServingSim, MIT): profiler/perf/<GPU>/<model>/<variant>/tp<N>/{dense,per_sequence,attention,moe}.csv, with
meta.yaml beside the folders; profiler/README.md there says what each column is. Times are microseconds of one layer's kernels. Between the
measured points they are interpolated linearly on each axis, as that simulator does: an attention kernel is linear in what it reads.
Attention was measured on two grids of other steps, laid over each other, so a point's neighbours are looked for axis by axis.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from simulators.calibration.operation_tables.grid import OutsideTables
from simulators.errors import NotAvailable, SimulatorError

US = 1e-6
ATTENTION = ("n_decode", "prefill_chunk", "kv_prefill", "kv_decode")  # in the order in which neighbours are looked for
NEEDED = {
    "dense": ("layer", "tokens"),
    "per_sequence": ("layer", "sequences"),
    "attention": ATTENTION,
}

Nested = Mapping[int, Any]  # a point on the first axis -> the same of the other axes; on the last: -> s


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGrid:
    """Times over points that need not fill a rectangle. name: for messages. points: s, by the axes in their order."""

    name: str
    axes: Sequence[str]
    points: Nested

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame, axes: Sequence[str]) -> "LayerGrid":
        """From rows with these columns and `time_us`; the mean of rows that share a point."""
        return cls(name=name, axes=axes, points=_nested(rows, list(axes)))

    def at(self, **point: float) -> float:
        """s at a point, every axis named. Raises OutsideTables beyond what was measured."""
        try:
            return _between(self.points, [point[axis] for axis in self.axes])
        except OutsideTables as error:
            where = ", ".join(f"{axis} {point[axis]:g}" for axis in self.axes)
            raise OutsideTables(f"{self.name} was not measured around {where}") from error


def _nested(rows: pd.DataFrame, axes: list[str]) -> Nested:
    first, *others = axes
    if not others:
        means = rows.groupby(first)["time_us"].mean()
        return dict(zip(means.index.astype(int).tolist(), (US * means).tolist(), strict=True))
    return {int(str(at)): _nested(part, others) for at, part in rows.groupby(first)}


def _between(points: Nested, at: Sequence[float]) -> float:
    """s at a point: between the nearest values on the first axis, below and above, that have something at the others."""
    first, others = at[0], at[1:]
    below = _nearest(points, sorted((k for k in points if k <= first), reverse=True), others)
    if below is not None and below[0] == first:
        return below[1]
    above = _nearest(points, sorted(k for k in points if k > first), others)
    if below is None or above is None:
        raise OutsideTables
    return below[1] + (above[1] - below[1]) * (first - below[0]) / (above[0] - below[0])


def _nearest(points: Nested, order: Sequence[int], others: Sequence[float]) -> tuple[int, float] | None:
    """The first of these values that has something at the other axes, and that."""
    for value in order:
        with suppress(OutsideTables):
            return value, (_between(points[value], others) if others else points[value])
    return None


@dataclass(frozen=True, kw_only=True)
class LayerTables:
    """All tables of one model on one GPU. folder: that of its tensor parallelism."""

    folder: Path
    dense: Mapping[str, LayerGrid]  # by layer, over `tokens`
    per_sequence: Mapping[str, LayerGrid]  # by layer, over `sequences`
    attention: LayerGrid
    meta: Mapping[str, Any]  # of the whole profile: vllm_version, gpu, ...

    @classmethod
    def read(cls, folder: Path) -> "LayerTables":
        """Raises NotAvailable when there is no such folder, SimulatorError naming a file and what it lacks."""
        if not folder.is_dir():
            there = ", ".join(sorted(p.name for p in folder.parent.glob("tp*"))) or "nothing"
            raise NotAvailable(f"calibration servingsim: {folder} is not there; {folder.parent} has {there}")
        tables = {name: _rows(folder / f"{name}.csv", columns) for name, columns in NEEDED.items()}
        return cls(
            folder=folder,
            dense=_by_layer(folder, tables["dense"], "tokens"),
            per_sequence=_by_layer(folder, tables["per_sequence"], "sequences"),
            attention=LayerGrid.of(str(folder / "attention.csv"), tables["attention"], ATTENTION),
            meta=_meta(folder.parent / "meta.yaml"),
        )


def _meta(path: Path) -> dict[str, Any]:
    """What it says of itself; {} where the file is missing."""
    return {str(key): value for key, value in OmegaConf.to_container(OmegaConf.load(path)).items()} if path.is_file() else {}  # type: ignore[union-attr]


def _rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise SimulatorError(f"calibration servingsim: {path} is not there; take a whole clone of LLMServingSim's repository")
    rows = pd.read_csv(path)
    missing = [column for column in (*columns, "time_us") if column not in rows]
    if missing:
        raise SimulatorError(f"calibration servingsim: {path} lacks the columns {', '.join(missing)}; it has {', '.join(rows.columns)}")
    return rows


def _by_layer(folder: Path, rows: pd.DataFrame, axis: str) -> Mapping[str, LayerGrid]:
    return {str(layer): LayerGrid.of(f"{folder}: {layer}", part, (axis,)) for layer, part in rows.groupby("layer")}
