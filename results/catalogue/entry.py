"""An entry of the catalogue: the runs of one source on one GPU with one model. conf/recording/*.yaml has one file each."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from results.project.folder import CONF
from results.project.git import check_commit
from results.recordings.recording import RecordingError

Loop = Literal["open", "closed"]
CONFIGS = CONF / "recording"


class Converter(Protocol):
    """Reads a source's own files."""

    def convert(self, repository: Path, about: Mapping[str, Any], out: Path) -> Iterator[str]:
        """Write every run that the repository has into a folder of its own in `out`, in a form that can be imported; yield their names.

        about: what stands in run.yaml for all of them. Raises RecordingError for a file that is not as it should be.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a source is published."""

    repository: str  # a git address, a clone or a bare repository
    commit: str  # all 40 digits
    licence: str | None  # its SPDX name; None: the repository has none, so it may be scored and not passed on
    paths: Sequence[str]  # of the files that are needed, as in .gitignore
    variable: str  # the environment variable that conf/recording takes another address from

    def __post_init__(self) -> None:
        check_commit(self.commit, f"recording from {self.repository or 'nowhere'}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which runs belong together: those with one workload, rate and concurrency form a cell, and differ in the repeat.

    runs: a regular expression for the names of their folders. Its groups `rate` (req/s), `concurrency` and `repeat` are what the name says.
    """

    runs: str
    workload: str  # the name that their runs get
    loop: Loop = "open"  # closed: a new request is sent when one ends, so the arrivals are the engine's doing
    rate: float | None = None  # req/s, where the name does not say it; None: unknown, or no rate (closed, or all at once)
    concurrency: int | None = None  # requests in flight of a closed loop, where the name does not say it
    repeats: Sequence[str] = ()  # what `repeat` may be, in order; empty: numbers from 1
    generated: int | None = None  # output tokens that the client forced on every request, where the recorded counts are wrong

    def of(self, run: str) -> "RecordedLoad | None":
        """The load of a run, and which repeat of it this is; None: the run is not in the split."""
        found = re.fullmatch(self.runs, run)
        if found is None:
            return None
        told = {name: text for name, text in found.groupdict().items() if text is not None}
        repeat = told.get("repeat")
        number = 0 if repeat is None else self.repeats.index(repeat) if self.repeats else int(repeat) - 1
        rate = float(told["rate"]) if "rate" in told else self.rate
        concurrency = int(told["concurrency"]) if "concurrency" in told else self.concurrency
        return RecordedLoad(
            workload=self.workload, loop=self.loop, rate=rate, concurrency=concurrency, repeat=number, generated=self.generated
        )


@dataclass(frozen=True, kw_only=True)
class RecordedLoad:
    """What one run was asked, and which repeat of that it is."""

    workload: str
    loop: Loop
    rate: float | None  # req/s
    concurrency: int | None  # requests in flight of a closed loop
    repeat: int  # from 0
    generated: int | None  # as in Split


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of conf/recording."""

    name: str  # the file's, and that of the folder with its runs
    gpu: str  # for people: what it is exactly, and how many
    runs: int  # that the source has
    origin: Origin  # where it is published
    about: Mapping[str, Any]  # system, version, model, hardware, limits: as in run.yaml (docs/importing.md)
    split: Sequence[Split]  # the first that a run is in counts
    wrong: Sequence[str]  # what is known to be wrong with it, or must be known to read it; a sentence each
    converter: Converter  # reads the source's own files
    cold: int = 0  # the first requests of a run that are not scored, as they met a server that had just started
    prompts: str | None = None  # the file of a run's folder that says which prefixes its prompts share
    not_yet: str | None = None  # why its runs cannot be imported yet; None: they can
    calibrate_by: str | None = None  # the run of this entry that the calibrated track may be fitted to (never scored on itself); None: none

    def load(self, run: str) -> RecordedLoad:
        """The load of a run. Raises RecordingError for one that no split names."""
        found = next((load for split in self.split if (load := split.of(run)) is not None), None)
        if found is None:
            raise RecordingError(f"recording {self.name}: no split in conf/recording/{self.name}.yaml names the run {run!r}; add one")
        return found

    @property
    def system(self) -> str:
        """The engine."""
        return str(self.about["system"])

    @property
    def model(self) -> str:
        """The model's name."""
        model = self.about["model"]
        return str(model["name"] if isinstance(model, Mapping) else model)

    @property
    def hardware(self) -> str:
        """The GPU's name in conf/hardware."""
        hardware = self.about["hardware"]
        return str(hardware["name"] if isinstance(hardware, Mapping) else hardware)

    @property
    def loops(self) -> list[Loop]:
        """Whether it has open loops, closed ones, or both."""
        return sorted({split.loop for split in self.split}, reverse=True)


def entries(folder: Path = CONFIGS) -> list[Entry]:
    """All of them, by name. Raises RecordingError, in one line, for a file that is no entry."""
    return [_read(path) for path in sorted(folder.glob("*.yaml"))]


def _read(path: Path) -> Entry:
    try:
        entry = instantiate(OmegaConf.load(path), _convert_="all")
    except (InstantiationException, OmegaConfBaseException, ValueError) as error:
        raise RecordingError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(entry, Entry) or entry.name != path.stem:
        raise RecordingError(f"{path}: it must be a results.catalogue.entry.Entry whose name is {path.stem}")
    return entry
