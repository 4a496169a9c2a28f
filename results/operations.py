"""Times of single operations of one transformer layer, in seconds: what Vidur's authors profile a device with, in a form of our own.

`harness/microbench/benchmarks.py` measures them; `simulators/vidur/device_times.py` turns them into Vidur's own files.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:  # pandas takes long to import, and is needed only where there is such a table
    import pandas as pd

STATISTICS = ("median", "min", "max", "mean", "std")
COLUMNS = ("operation", "tokens", "batch", "chunk", "context", *STATISTICS)
META, TIMES = "operations.json", "operations.parquet"
FOLDER = "operations"  # beside the runs


@dataclass(frozen=True, kw_only=True)
class Operations:
    """One row per operation and point, of one layer on one device, its kernels warm.

    Columns of `times`: operation: by Vidur's name. tokens: new ones of the step. batch, chunk, context: of attention alone (0 else):
    sequences, new tokens of each (0: it decodes one), cached tokens of each. median, min, max, mean, std: s, over the timed passes.
    """

    operations_id: str  # names this measurement
    model: Mapping[str, Any]  # its config.json
    hardware: str  # name, as in a run
    tensor_parallel: int  # devices that share the layer
    block_size: int  # tokens of a block of the KV cache
    kernels: Mapping[str, str]  # operation to which code was timed
    times: "pd.DataFrame"  # see above
    source: str  # what timed them
    started_at: str  # UTC, ISO 8601
    wall_s: float  # s that the timing took
    wanted: Mapping[str, int]  # points asked for, by kind ('linear', 'prefill', 'decode'); a budget may have ended before all of them
    provenance: Mapping[str, Any] = field(default_factory=dict)  # where they were timed and with which code; JSON-able

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.times.columns]
        if missing:
            raise ValueError(f"operations {self.operations_id}: the times lack the columns {missing}")
        bad = self.times[~(self.times["median"] > 0)]
        if len(bad):
            raise ValueError(f"operations {self.operations_id}: {len(bad)} medians are not > 0, first: {bad.iloc[0].to_dict()}")

    def of(self, *operations: str) -> "pd.DataFrame":
        """The rows of these operations."""
        return self.times[self.times["operation"].isin(operations)]

    def write(self, folder: Path) -> Path:
        """Write operations.json and operations.parquet into a new folder (made under a temporary name, then renamed)."""
        scratch = folder.with_name(f".{folder.name}.tmp")
        scratch.mkdir(parents=True)
        self.times.to_parquet(scratch / TIMES, index=False, compression="zstd")
        meta = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "times"}
        (scratch / META).write_text(json.dumps(meta, indent=1) + "\n")
        scratch.rename(folder)
        return folder

    @classmethod
    def read(cls, folder: Path) -> "Operations":
        """Read a folder that `write` made. Raises FileNotFoundError naming the file that is missing."""
        meta = json.loads((folder / META).read_text())
        return cls(times=pq.read_table(folder / TIMES).to_pandas(), **meta)


def stored(roots: Iterable[Path]) -> list[Path]:
    """The folders of operation times beside the runs of these roots, the newest last."""
    return sorted((path.parent for root in roots for path in (root / FOLDER).glob(f"*/{META}")), key=lambda folder: folder.name)
