"""Which wheel of AISimulate a run gets, and that each wheel has the operation times that the settings say."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from results.record import Run
from simulators.aisimulate.releases import Chosen, best_with_profiles, candidates
from simulators.calibration.operation_tables.files import installed
from tests.environments import python_of
from tests.simulators.aisimulate.test_aisimulate import make_aisimulate
from tests.simulators.profiles import make_measured


def run_of(version: str | None, hardware: str = "h100", **changes: Any) -> Run:
    return dataclasses.replace(make_measured([(0.5, 100, 10)]), version=version, hardware=hardware, **changes)


def first(run: Run) -> Chosen:
    return candidates([*make_aisimulate().releases.values()], run)[0]


@pytest.mark.parametrize(
    ("version", "hardware", "wheel", "tables", "away"),
    [
        ("0.19.0", "h100", "0.1.0.dev2", "0.19.0", "the same"),
        ("0.15.1", "h100", "0.1.0.dev2", "0.14.0", "1 minor older"),
        ("0.23.0", "h100", "0.1.0.dev2", "0.22.0", "1 minor older"),  # 0.24.0 is as far: of two the older
        ("0.24.1", "h100", "0.13.0.dev202610270000000085", "0.24.0", "1 patch older"),  # both have it
        ("0.29.0", "h100", "0.13.0.dev202610270000000085", "0.31.0", "2 minors newer"),
        ("0.14.0", "a100", "0.13.0.dev202610270000000085", "0.14.0", "the same"),
        (None, "h200", "0.13.0.dev202610270000000085", "0.31.0", "unknown"),
    ],
)
def test_the_nearest_operation_times_choose_the_wheel(version: str, hardware: str, wheel: str, tables: str, away: str) -> None:
    found = first(run_of(version, hardware))
    assert (found.release.version, found.version, found.away, found.meant) == (wheel, tables, away, True)


def test_the_words_say_what_was_chosen_and_how_far_it_is() -> None:
    assert first(run_of("0.15.1")).times_from("h100") == "its own, of h100_sxm with vLLM 0.14.0, 1 minor older than the engine's 0.15.1"
    elsewhere = first(run_of("0.26.0", "a40")).times_from("a40")
    assert elsewhere == (
        "its own, of l40s with vLLM 0.24.0, 2 minors older than the engine's 0.26.0; the nearest to a40 that it ships: not meant for such "
        "hardware"
    )


def test_another_engines_version_says_nothing_of_tables_of_vllm() -> None:
    found = first(run_of("0.5.10", system="sglang"))
    assert (found.version, found.engine, found.away) == ("0.31.0", None, "unknown")


def test_a_setting_that_one_wheel_has_takes_that_wheel_and_a_forced_one_is_a_system_of_its_own() -> None:
    assert make_aisimulate(tokenization={"workers": 1}).environment == ("aisimulate_0_13",)
    both, forced = make_aisimulate(), make_aisimulate(release="v0_1")
    assert (both.system, both.environment) == ("aisimulate", ("aisimulate", "aisimulate_0_13"))
    assert (forced.system, forced.environment) == ("aisimulate_v0_1", ("aisimulate",))


def test_a_profile_is_for_the_wheel_that_composes_a_mixed_step_of_it() -> None:
    older, newer = make_aisimulate().releases.values()
    assert best_with_profiles([older, newer]) == older
    assert best_with_profiles([newer]) == newer


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["v0_1", "v0_13"])
def test_the_wheel_has_what_the_settings_say(name: str) -> None:
    release = make_aisimulate().releases[name]
    python_of(release.environment)
    data = installed(release.environment)
    for device in (*release.devices.values(), release.nearest):
        for version in device["versions"]:
            assert version in _versions(data, device["system"]), f"{device['system']}: vLLM {version}"
    assert (data.parent / "silicon_sample.csv").is_file()


def _versions(data: Path, system: str) -> set[str]:
    """Those that a wheel can be asked for: the older one, all that it has products and attention of; the newer one, what its slots say."""
    families = [{path.name for path in (data / system / family / "vllm").iterdir()} for family in ("gemm", "attention")]
    slots = data.parent / "query_versions.yaml"
    if not slots.is_file():
        return families[0] & families[1]
    told = yaml.safe_load(slots.read_text())
    current = told["overrides"].get(system, told["defaults"])["vllm"]["current"]
    return {current} | (families[0] & {"0.31.0"})
