"""A study whose cells are recordings of the catalogue: every one that is here, no engine and no GPU needed.

Its tasks import; the rest is a study's (harness/study.py): the store that goes on where it stopped, the jobs, the report.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatch

from omegaconf import OmegaConf

from harness.console import say
from harness.grid.plan import Task
from results.catalogue.shelf import shelf
from results.identity import digest
from results.record import Track

SECONDS = 1.0  # of an import, about


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """conf/study/gpu_recordings.yaml says what each setting means. A harness.study.Grid."""

    name: str  # of the study
    recordings: Sequence[str]  # patterns of names in conf/recording
    simulators: Sequence[str]  # names in conf/simulator
    tracks: Sequence[Track]  # that are asked of each
    simulation: Sequence[str]  # settings of conf/bench.yaml for all of them
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)  # more settings, by the simulator
    once: Sequence[str] = ()  # simulators that take the first repeat of a cell only
    start: float = 0.0  # no server starts

    def tasks(self, overrides: Sequence[str]) -> list[Task]:
        """One per run that is here and can be imported, in the catalogue's order. Raises ValueError, in one line, without any.

        overrides: not needed, as an import depends on the catalogue alone.
        """
        known = shelf()
        for pattern in self.recordings:
            if not any(fnmatch(entry.name, pattern) for entry in known.entries):
                names = [entry.name for entry in known.entries]
                near = get_close_matches(pattern, names, n=2) or names
                raise ValueError(f"study.recordings: no recording is called {pattern!r}; there is {', '.join(near)}")
        found: list[Task] = []
        for entry in known.entries:
            if not any(fnmatch(entry.name, pattern) for pattern in self.recordings):
                continue
            here = known.here(entry)
            if here and entry.not_yet is not None:
                say(f"{entry.name}: left out: {entry.not_yet}", style="yellow")
                continue
            found += self._tasks(entry.name, entry.origin.commit, here)
        if not found:
            raise ValueError(
                f"study {self.name}: no recording is here; ./plumbline recordings lists them, ./plumbline recordings fetch NAME gets one"
            )
        return found

    def _tasks(self, recording: str, commit: str, runs: Iterable[str]) -> Iterator[Task]:
        for run in runs:
            key = digest({"kind": "recorded", "recording": recording, "commit": commit, "run": run})
            settings = OmegaConf.create(
                {"engine": {"_target_": "harness.engines.catalogued.Catalogued", "recording": recording, "run": run}}
            )
            name = recording if run == recording else f"{recording}-{run}"
            yield Task(kind="recorded", name=name, key=key, engine=key, seconds=SECONDS, settings=settings, group=recording)
