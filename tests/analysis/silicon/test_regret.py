"""Regret of choices by a prediction: by hand, and what must hold of any."""

import numpy as np
import pandas as pd
import pytest

from analysis.silicon.regret import regrets


def frame(**columns: list[float]) -> pd.DataFrame:
    """Configurations of one model, GPU and load; measured unless said otherwise."""
    number = len(columns["measured_throughput"])
    same = {"model": "m", "gpu": "g", "input_tokens": 1024, "output_tokens": 1024}
    return pd.DataFrame({"point_id": [f"p{place}" for place in range(number)], **same, **columns})


THREE = {"measured_throughput": [100.0, 200.0, 400.0], "measured_tpot": [0.01, 0.02, 0.04]}


def test_a_choice_by_hand() -> None:
    right = frame(**THREE, throughput=[1.0, 2.0, 3.0], tpot=[0.01, 0.02, 0.04])
    wrong = frame(**THREE, throughput=[1.0, 3.0, 2.0], tpot=[0.01, 0.02, 0.04])
    found = regrets({"right": right, "wrong": wrong}, bounds=(None,))
    assert [(one.predictor, one.values, one.missed) for one in found] == [("right", (0.0,), 0), ("wrong", (0.5,), 0)]


def test_a_choice_beyond_the_bound_or_none_is_all_lost() -> None:
    four = {name: [*values, values[1]] for name, values in THREE.items()}
    hasty = frame(**four, throughput=[1.0, 2.0, 3.0, 2.0], tpot=[0.01, 0.02, 0.02, 0.02])
    timid = frame(**four, throughput=[1.0, 2.0, 3.0, 2.0], tpot=[0.5] * 4)
    found = regrets({"hasty": hasty, "timid": timid}, bounds=(40.0,))
    assert [(one.values, one.missed) for one in found] == [((1.0,), 1), ((1.0,), 1)]


def test_only_points_that_all_predict_count_and_groups_that_leave_a_choice() -> None:
    whole = frame(**THREE, throughput=[1.0, 2.0, 3.0], tpot=[0.01, 0.02, 0.04])
    (one, _) = regrets({"whole": whole, "part": whole.iloc[:2]}, bounds=(None,))
    assert one.values == () and np.isnan(one.median)
    assert regrets({"whole": whole}, bounds=(40.0,))[0].values == ()


@pytest.mark.parametrize("seed", range(5))
def test_whoever_predicts_what_was_measured_regrets_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    measured = {"measured_throughput": rng.uniform(1, 9, 30).tolist(), "measured_tpot": rng.uniform(0.005, 0.09, 30).tolist()}
    perfect = frame(**measured, throughput=measured["measured_throughput"], tpot=measured["measured_tpot"])
    wrong = frame(**measured, throughput=[-value for value in measured["measured_throughput"]], tpot=measured["measured_tpot"])
    best, worst = regrets({"perfect": perfect, "wrong": wrong})
    assert max(best.values) == 0 == best.missed == worst.missed and all(0 < value < 1 for value in worst.values)
