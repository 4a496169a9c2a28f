"""A recording of the catalogue (conf/recording) in the place of an engine: imported when a study asks for it, measured by others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.engine import EngineError
from results.catalogue.shelf import shelf
from results.profile import Profile
from results.record import Run
from results.recordings.recording import RecordingError
from workloads.trace import TraceError


@dataclass(frozen=True, kw_only=True)
class Catalogued:
    """One run of an entry, that is here."""

    recording: str  # the entry's name
    run: str  # the run's, of its folder
    environment: None = None  # none: nothing runs

    @contextmanager
    def stored(self) -> Iterator[tuple[Run, Profile | None, Path | None]]:
        """As harness.engines.recorded.Recorded.stored; nobody profiled that engine. Raises EngineError when it cannot be imported."""
        try:
            run = shelf().run(self.recording, self.run)
        except (RecordingError, TraceError) as error:
            raise EngineError(str(error)) from error
        yield run, None, None
