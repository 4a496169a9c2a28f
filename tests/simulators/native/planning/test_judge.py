"""Judge: what it takes of a simulation is what the database has of it."""

import pytest

from simulators.native.planning import settings


def test_the_quick_latencies_are_those_of_run_metrics() -> None:
    judge = settings.judge(settings.settings(["model=llama_3_1_8b", "hardware=h100", "workload=azure_conv_8k"]))
    judge.attainment(8.0, 300)
    assert judge.outcome is not None
    quick, all_of_them = judge.latencies_of(judge.outcome), judge.metrics_of(judge.outcome)
    assert len(quick) == 4 and all(value is not None and value == pytest.approx(all_of_them[key]) for key, value in quick.items())
