"""Predictions of points: one Parquet file of points x predictors.

Not run folders: a point has no requests to be compared with, only two numbers, and thousands of folders would bury the runs of a bench. The
file holds the point beside what is predicted of it, so that it is read without anything else.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from results.silicon.points import MeasuredPoint, PointError

PROVENANCE = b"plumbline"  # key of the file's metadata under which it says how it was made


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPrediction:
    """What a predictor says of a point, or why it says nothing."""

    point_id: str  # of the MeasuredPoint
    predictor: str  # native, aisimulate
    fitted_on: str  # the half of the models on which its efficiencies were fitted; "" nothing was
    half: str  # the half that the point's model is in
    ttft: float | None  # s; None: not predicted
    tpot: float | None  # s; None: not predicted
    throughput: float | None  # output tokens/s/GPU; None: not predicted
    reason: str | None  # why it was not predicted; None: it was
    note: str | None = None  # what to know of it: which limit bound

    @property
    def held_out(self) -> bool:
        """Whether nothing was fitted on the point's model."""
        return self.fitted_on != self.half


ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}
MEASURED = ("ttft", "tpot")  # fields of a MeasuredPoint that a prediction has too


def write(path: Path, points: Iterable[MeasuredPoint], predictions: Sequence[PointPrediction], provenance: Mapping[str, Any]) -> None:
    """A row per prediction, its point's fields beside it; measured times as measured_ttft, measured_tpot. The file is replaced whole."""
    known = {point.point_id: point for point in points}
    rows = [_row(known[prediction.point_id], prediction) for prediction in predictions]
    schema = pa.schema(_fields(), metadata={PROVENANCE: json.dumps(dict(provenance), sort_keys=True).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The rows, and how they were made. Raises PointError where there is no such file."""
    if not path.is_file():
        raise PointError(f"predictions of points: {path} is missing; ./plumbline study study=silicon makes it")
    table = pq.read_table(path)
    return table, json.loads((table.schema.metadata or {}).get(PROVENANCE, b"{}"))


def _row(point: MeasuredPoint, prediction: PointPrediction) -> dict[str, Any]:
    measured = {_column(name): value for name, value in asdict(point).items()}
    return {
        **measured,
        "precision": point.precision,
        "parallelism": point.parallelism,
        **asdict(prediction),
        "held_out": prediction.held_out,
    }


def _column(name: str) -> str:
    return f"measured_{name}" if name in MEASURED else name


def _fields() -> list[pa.Field]:
    of_point = [pa.field(_column(f.name), _arrow(MeasuredPoint, f.name)) for f in fields(MeasuredPoint)]
    of_prediction = [pa.field(f.name, _arrow(PointPrediction, f.name)) for f in fields(PointPrediction) if f.name != "point_id"]
    words = [pa.field(name, pa.string()) for name in ("precision", "parallelism")]
    return [*of_point, *words, *of_prediction, pa.field("held_out", pa.bool_())]


def _arrow(kind: type, name: str) -> pa.DataType:
    """The column's type: of what stands in the annotation beside None, or of a Literal's words."""
    hint = get_type_hints(kind)[name]
    inner = next((ARROW[part] for part in (hint, *get_args(hint)) if part in ARROW), None)
    return pa.string() if inner is None else inner
