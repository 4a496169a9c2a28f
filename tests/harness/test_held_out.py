"""What a bench says of a calibrated simulator's step times."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.simulation import held_out_line
from results.record import Run
from tests.runs import make_pair
from tests.simulators.foreign.copies import configured
from tests.simulators.profiles import Law, make_measured, make_profile


def told(**simulator: Any) -> Run:
    run = make_pair()[1]
    return dataclasses.replace(run, config={**run.config, "simulator": simulator})


def test_the_errors_by_kind_and_what_cannot_be_expressed() -> None:
    point = {"n": 3, "bias": -0.02, "median": 0.021, "p90": 0.05}
    residuals = {
        "fitted": {"decode": {**point, "median": 0.5}},
        "held_out": {"prefill": point, "decode_at_context": {**point, "median": 0.1}},
    }
    line = held_out_line(told(calibration={"residuals": residuals, "cannot_express": "mixed steps"}))
    assert line == "steps held out of the fit, median error: decode at context 10.0%, prefill 2.1%; it cannot express mixed steps"


@pytest.mark.parametrize("nothing", [{}, {"calibration": None}, {"calibration": {"residuals": None}}, {"step_time": {"residuals": {}}}])
def test_without_such_steps_nothing_is_said(nothing: dict[str, Any]) -> None:
    assert held_out_line(told(**nothing)) is None


def test_our_own_simulator_tells_them_too(tmp_path: Path) -> None:
    measured = make_measured([(0.5, 100, 10)])
    run = configured("native").simulate(measured, track="calibrated", profile=make_profile(Law()), scratch=tmp_path)
    line = held_out_line(run)
    assert line is not None and all(f"{kind} " in line for kind in ("decode", "mixed", "prefill"))
