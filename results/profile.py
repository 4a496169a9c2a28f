"""Profile: an engine's measured step times on one machine, the single source from which every simulator is calibrated.

On disk: profile.json (everything but the samples) and profile.parquet, kept in the folder of each run measured with it.
`harness/probing/profiler.py` measures it; the adapters in simulators/ turn it into each simulator's own format. It never holds the workload
that is scored.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.record import EngineLimits

if TYPE_CHECKING:  # it takes long to import, and who has no profile needs none
    import pandas as pd

SAMPLE_COLUMNS = ("kind", "new_tokens", "prefill_context", "batch", "context", "time", "repeat", "held_out")
BENDS = "bends"  # in a composed profile's provenance: the token counts of steps between which its times are known to be smooth
REPEATABILITY = "repeatability"  # in its provenance, where it was measured: harness/probing/repeatability.py says what it holds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Raw step-time samples, one row per timed step.

    samples columns: kind: 'prefill' (new_tokens prompt tokens alone, prefill_context tokens of that prompt already in the KV cache),
        'decode' (batch sequences, one new token each, `context` KV tokens each on average), 'mixed' (both in one step) or 'frontend'
        (the fixed cost per request outside the steps: HTTP, tokenising, queue hand-over, detokenising; all counts 0).
        time: seconds of the step alone (front-end cost already taken off, except kind 'frontend'). repeat: 0, 1, ... of the same point.
        held_out: True for points kept out of every fit, to measure residuals on.
    """

    profile_id: str  # names it, and the files that hold it
    system: str  # the engine's name in the database
    version: str | None  # of the engine; None: not known
    model: Mapping[str, Any]  # the model's config.json
    hardware: str  # its name in conf/hardware
    limits: EngineLimits  # of the engine that was profiled
    samples: "pd.DataFrame"  # one row per timed step, see above
    source: str  # how it was measured, in words
    started_at: str  # ISO 8601
    wall_s: float  # seconds that profiling took
    provenance: Mapping[str, Any] = field(default_factory=dict)  # where, with what and how well it was measured, JSON-able

    def __post_init__(self) -> None:
        missing = [c for c in SAMPLE_COLUMNS if c not in self.samples.columns]
        if missing:
            raise ValueError(f"profile {self.profile_id}: samples lack the columns {missing}")
        bad = self.samples[~(self.samples["time"] >= 0)]
        if len(bad):
            raise ValueError(f"profile {self.profile_id}: {len(bad)} samples have no time >= 0, first: {bad.iloc[0].to_dict()}")

    def points(self, *, held_out: bool | None = None) -> "pd.DataFrame":
        """One row per point: its median time over the repeats, and their spread (`iqr`, s) and number (`n`)."""
        rows = self.samples if held_out is None else self.samples[self.samples["held_out"] == held_out]
        keys = ["kind", "new_tokens", "prefill_context", "batch", "context", "held_out"]
        times = rows.groupby(keys)["time"]
        points = times.median().to_frame("time")
        return points.assign(iqr=times.quantile(0.75) - times.quantile(0.25), n=times.count()).reset_index()

    @property
    def frontend(self) -> float | None:
        """Median fixed cost per request outside the steps, in seconds; None when it was not measured."""
        times = self.samples.loc[self.samples["kind"] == "frontend", "time"]
        return float(times.median()) if len(times) else None

    def write(self, folder: Path) -> Path:
        """Write profile.json and profile.parquet into a new folder (made under a temporary name, then renamed)."""
        scratch = folder.with_name(f".{folder.name}.tmp")
        scratch.mkdir(parents=True)
        self.samples.to_parquet(scratch / "profile.parquet", index=False, compression="zstd")
        meta = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("samples", "limits")}
        meta["limits"] = dataclasses.asdict(self.limits)
        (scratch / "profile.json").write_text(json.dumps(meta, indent=1) + "\n")
        scratch.rename(folder)
        return folder

    @classmethod
    def read(cls, folder: Path) -> "Profile":
        """Read a folder that `write` made. Raises FileNotFoundError naming the file that is missing."""
        import pyarrow.parquet as pq  # here: it takes long to import, and a plan without a profile needs none

        meta = json.loads((folder / "profile.json").read_text())
        limits = EngineLimits(**meta.pop("limits"))
        return cls(samples=pq.ParquetFile(folder / "profile.parquet").read().to_pandas(), limits=limits, **meta)
