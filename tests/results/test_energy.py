"""Energy per output token, by hand: 13 tokens come inside the window [1, 3] of hand.py's run."""

import pandas as pd
import pytest

from tests.results.conftest import Build
from tests.results.hand import hand_run

POWER = {  # (name, time): W
    ("gpu0_power_w", 0.0): 1e6,
    ("gpu0_power_w", 1.0): 100.0,
    ("gpu0_power_w", 2.0): 200.0,
    ("gpu0_power_w", 3.0): 300.0,
    ("gpu0_power_w", 3.5): 1e6,
    ("gpu1_power_w", 1.0): 50.0,
    ("gpu1_power_w", 3.0): 50.0,
    ("gpu0_sm_clock_mhz", 2.0): 1980.0,
}


def energy(built: Build, power: dict[tuple[str, float], float] | None) -> tuple[float | None, float | None]:
    rows = [(time, name, watts) for (name, time), watts in (power or {}).items()]
    telemetry = None if power is None else pd.DataFrame(rows, columns=["time", "name", "value"])
    connection = built(hand_run(telemetry=telemetry))
    ((joules, per_token),) = connection.execute("select energy, energy_per_output_token from run_energy").fetchall()
    return joules, per_token


def test_energy_is_power_over_the_window_of_all_gpus_and_shared_by_the_tokens_in_it(built: Build) -> None:
    assert energy(built, POWER) == pytest.approx((2 * 200 + 2 * 50, 500 / 13))


def test_energy_does_not_depend_on_how_often_power_is_read(built: Build) -> None:
    more = POWER | {("gpu0_power_w", 1.25): 125.0, ("gpu0_power_w", 2.75): 275.0}
    assert energy(built, more) == pytest.approx(energy(built, POWER))


def test_without_samples_over_the_window_energy_is_unknown(built: Build) -> None:
    assert energy(built, None) == (None, None)
    assert energy(built, {key: watts for key, watts in POWER.items() if key != ("gpu0_power_w", 3.0)}) == (None, None)
    assert energy(built, {("gpu0_sm_clock_mhz", 2.0): 1980.0}) == (None, None)
