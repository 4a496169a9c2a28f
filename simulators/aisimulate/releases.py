"""Which wheel of AISimulate simulates a run, and which of its operation times: those nearest to the measured engine's version.

A wheel keeps the times of few versions of vLLM, and drops older ones, so that a newer wheel is not the better one for every engine. Nothing
here knows how far off any of them was on any run.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from results.record import Run
from simulators.foreign.versions import by_nearness, distance, numbers

NEAREST = "nearest"
ENGINE = "vllm"  # that its operation times are of, as they are used here


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel, and what it is like; conf/simulator/aisimulate.yaml says more.

    devices, nearest: GPUs of which it has operation times: its name of each (system), and with which vLLM they were measured (versions).
    """

    version: str  # its own
    environment: str  # name under .envs/
    devices: Mapping[str, Mapping[str, Any]]  # by the name in conf/hardware
    nearest: Mapping[str, Any]  # for any other hardware
    ending_decodes: bool  # whether the prompts that end in a step are decoded in it, too
    decode_floor: float  # s that it takes a decode step to last at least
    has: Collection[str]  # of the settings that not all wheels have

    def __post_init__(self) -> None:
        for name, device in {**self.devices, NEAREST: self.nearest}.items():
            if device.keys() != {"system", "versions"} or not device["versions"]:
                raise ValueError(
                    f"simulator aisimulate: release {self.version}, device {name} must have a system and versions, got {dict(device)}"
                )

    def device(self, hardware: str) -> Mapping[str, Any]:
        """What stands for a GPU."""
        return self.devices.get(hardware, self.nearest)


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """A wheel and its operation times for a run."""

    release: Wheel
    system: str  # its name of the device
    version: str  # of the engine with which they were measured
    engine: str | None  # the measured engine's own version; None: unknown, or of another engine
    meant: bool  # whether they are of the run's hardware

    @property
    def away(self) -> str:
        """How far the times are from the engine's version, in words."""
        return "unknown" if self.engine is None else distance(self.version, self.engine)

    def times_from(self, hardware: str) -> str:
        """Where the step times come from, in words for the report."""
        away = {"the same": ", the engine's version", "unknown": ""}.get(self.away, f", {self.away} than the engine's {self.engine}")
        near = "" if self.meant else f"; the nearest to {hardware} that it ships: not meant for such hardware"
        return f"its own, of {self.system} with vLLM {self.version}{away}{near}"

    def told(self) -> dict[str, str | None]:
        """For the run's configuration: what was chosen, and by what."""
        return {"system": self.system, "tables_of": self.version, "engine": self.engine, "distance": self.away}


def having(releases: Collection[Wheel], needs: Collection[str]) -> list[Wheel]:
    """Those that have all of these settings. Raises ValueError where none has."""
    able = [release for release in releases if set(needs) <= set(release.has)]
    if not able:
        known = ", ".join(release.version for release in releases)
        raise ValueError(f"simulator aisimulate: release {known} has no {' and no '.join(sorted(needs))}; set release=nearest")
    return able


def best_with_profiles(releases: Collection[Wheel]) -> Wheel:
    """The wheel for a profile's step times, its own not being in use: one that pays the fixed cost of a step of prompts and decodes once
    (tables.py); of several the newest.
    """
    return max(releases, key=lambda release: (release.ending_decodes, numbers(release.version)))


def candidates(releases: Collection[Wheel], measured: Run) -> list[Chosen]:
    """The operation times that there are for the run's hardware, those of the version nearest to its engine's first; in the newest of the
    wheels that have them.
    """
    able = [release for release in releases if measured.hardware in release.devices] or releases
    engine = measured.version if measured.system == ENGINE else None
    newest_last = sorted(able, key=lambda release: numbers(release.version))
    by_version = {version: release for release in newest_last for version in release.device(measured.hardware)["versions"]}
    return [
        Chosen(
            release=by_version[version],
            system=by_version[version].device(measured.hardware)["system"],
            version=version,
            engine=engine,
            meant=measured.hardware in by_version[version].devices,
        )
        for version in by_nearness(by_version, engine)
    ]
