"""A folder that looks like a clone of Frontier: a model and a profile of it, with times of a law."""

import json
from pathlib import Path

import pandas as pd

from simulators.foreign.step_times import StepTimes
from simulators.frontier.tables import StepGrid, attention_rows, linear_rows
from tests.simulators.profiles import MODEL, Law, make_profile

SIZES = {**MODEL, "hidden_act": "silu"}


def made_clone(folder: Path, *, device: str = "h800", step: int = 512, context: int = 2048, batch: int = 64) -> Path:
    """One whose only profile is whole and reaches so far; its names of the model and of the GPU are `tiny` and `device`."""
    (folder / "frontier").mkdir(parents=True)
    (folder / "frontier" / "main.py").touch()
    models = folder / "data" / "config" / "models"
    models.mkdir(parents=True)
    (models / "tiny.json").write_text(json.dumps(SIZES))
    profile = folder / "data" / "profiling" / "compute" / device / "tiny"
    profile.mkdir(parents=True)
    times = StepTimes.fit("frontier", make_profile(Law()))
    grid = StepGrid(step=step, batch=batch, context=context, granularity=64)
    linear_rows(times, grid).to_csv(profile / "linear_op.csv", index=False)
    attention_rows(times, grid, 16).to_csv(profile / "attention.csv", index=False)
    return folder


def without_column(path: Path, column: str) -> None:
    """Take a column out of a table."""
    pd.read_csv(path, low_memory=False).drop(columns=column).to_csv(path, index=False)
