"""What it costs to choose among measured configurations by our simulator, and by AIConfigurator, on the same points."""

from pathlib import Path
from typing import Any

import pytest

from analysis.silicon.regret import BOUNDS, regrets
from analysis.silicon.scores import scored, with_errors
from results.silicon.predictions import read

PREDICTIONS = Path("results/studies/silicon/predictions.parquet")


def test_regret_of_the_choice(benchmark: Any) -> None:
    """Target: 5 % or less in the median, and less than AIConfigurator's. Nothing is fitted."""
    if not PREDICTIONS.is_file():
        pytest.skip("there are no predictions; ./plumbline study study=silicon makes them")
    table, _ = read(PREDICTIONS)
    frame = scored(with_errors(table.to_pandas()))
    plain = frame[frame["fitted_on"] == ""]
    frames = {name: plain[plain["predictor"] == name] for name in ("native", "aiconfigurator")}
    print()
    for bounds in (BOUNDS, *((bound,) for bound in BOUNDS)):
        told = "all bounds" if bounds is BOUNDS else f"at least {bounds[0]:g} tokens/s of a user" if bounds[0] else "no bound"
        for one in regrets(frames, bounds=bounds):
            print(
                f"{told}: {one.predictor} regret {one.median:.1%} in the median, {one.mean:.1%} in the mean, of {len(one.values)} choices, "
                f"{one.missed} of them beyond the bound"
            )
    benchmark.pedantic(regrets, args=(frames,), rounds=1)
