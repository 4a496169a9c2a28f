"""What a source of calibration is: it takes a measured run and its engine's profile (if any), and gives the profile for all simulators."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from results.profile import Profile
from results.record import Run


class Calibration(Protocol):
    """A source of step times. The files conf/calibration/*.yaml name the classes."""

    @property
    def source(self) -> str:
        """Its name in a run's configuration and in the report."""
        ...

    @property
    def environment(self) -> str | None:
        """Name of its environment under .envs/, or None when it needs none."""
        ...

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """The profile for the calibrated track; None: there is none, so that track is not available.

        profile: the engine's own, where it was measured. Raises NotAvailable when this source has nothing for this run, and says why.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The engine's own profile, as it was measured or stored with the run."""

    source: ClassVar[str] = "measured"
    environment: ClassVar[str | None] = None

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """See Calibration."""
        return profile
