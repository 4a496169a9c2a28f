"""The parts of a bench that live elsewhere, seen through narrow protocols. Hydra puts the real ones in their places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from results.profile import Profile
from results.project.missing import MissingSimulation
from results.project.progress import Progress
from results.record import Run, Track
from workloads.trace import Trace

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd


class Workload(Protocol):
    """What makes the trace (conf/workload/*.yaml)."""

    @property
    def name(self) -> str:
        """For people and for the run's id."""
        ...

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """Requests at `rate` per second (None: the workload's own; inf: all at second 0)."""
        ...


class ServedModel(Protocol):
    """What an engine serves (conf/model/*.yaml)."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of its config.json."""
        ...

    @property
    def first_id(self) -> int:
        """Prompts are made of the token ids from this one on, up to vocab_size - 1."""
        ...

    @property
    def vocab_size(self) -> int:
        """See first_id."""
        ...

    @property
    def longest(self) -> int | None:
        """Tokens of its longest request, prompt and output; None: it does not say."""
        ...

    def folder(self, root: Path) -> Path:
        """The folder that an engine reads, made under `root` where it is not there yet (absolute)."""
        ...


class SimulatorLike(Protocol):
    """What a simulator is, seen from here (simulators/simulator.py has the whole of it)."""

    @property
    def system(self) -> str:
        """Its name in the database."""
        ...

    @property
    def environment(self) -> str | tuple[str, ...] | None:
        """Its environment under .envs/, or all that it may need, or None."""
        ...

    def tracks(self) -> tuple[Track, ...]:
        """The tracks it can be run in."""
        ...

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the measured run's requests."""
        ...


class CalibrationLike(Protocol):
    """Where the calibrated track's step times come from, seen from here (simulators/calibration/sources.py has the whole of it)."""

    @property
    def source(self) -> str:
        """Its name."""
        ...

    @property
    def environment(self) -> str | None:
        """Its environment under .envs/, or None."""
        ...

    def profile(self, measured: Run, profile: Profile | None) -> Profile | None:
        """The profile to calibrate from, given the engine's own; None when there is none."""
        ...


class SummaryLike(Protocol):
    """What the report says of itself."""

    @property
    def notice(self) -> str | None:
        """What to know before all else, or None."""
        ...

    @property
    def note(self) -> str:
        """How the table is to be read."""
        ...

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        ...

    @property
    def table(self) -> "pd.DataFrame":
        """The measured run and each simulator's errors, as text; the first column names the rows, the last ones matter least."""
        ...

    @property
    def path(self) -> Path:
        """Where the page is."""
        ...


class Reporter(Protocol):
    """What scores and reports (conf/report/*.yaml)."""

    def write(
        self, measured_run_id: str | None = None, *, unavailable: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> SummaryLike:
        """Score the database and write the report. unavailable: 'system:track' to the reason why it could not be had."""
        ...


class StudySummaryLike(Protocol):
    """What a study's report says of itself."""

    @property
    def verdict(self) -> str:
        """The answer in plain words."""
        ...

    @property
    def path(self) -> Path:
        """Where the page is."""
        ...


class StudyReporter(Protocol):
    """What scores and reports a study (conf/report/study.yaml)."""

    def write(
        self,
        name: str | None = None,
        *,
        refusals: Sequence[MissingSimulation] = (),
        once: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> StudySummaryLike:
        """Score the database and write the report on the study of this name. refusals: what simulators did not give. once: those that
        took the first repeat of each cell only.
        """
        ...
