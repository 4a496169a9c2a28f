"""Gets an entry's runs from its public repository: the pinned commit, then each run converted into a folder that can be imported."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from results.catalogue.entry import Entry
from results.catalogue.shelf import FETCHED
from results.project import git
from results.recordings.recording import RecordingError

REPOSITORIES = ".repositories"  # in the same folder as what is made of them


def fetched(entry: Entry, cache: Path = FETCHED) -> list[str]:
    """The names of the runs that were put into cache/NAME: all that the source has, whole or not at all.

    Raises RecordingError: the repository cannot be had (with what to do), somebody edited it, or a file is not as it should be.
    """
    repository = checkout(entry, cache)
    folder = cache / entry.name
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{entry.name}-") as scratch:
        made = Path(scratch) / "runs"
        made.mkdir()
        names = [name for name in entry.converter.convert(repository, entry.about, made) if _kept(entry, made / name)]
        if not names:
            raise RecordingError(f"recording {entry.name}: {repository} has none of the runs that conf/recording/{entry.name}.yaml names")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return sorted(names)


def checkout(entry: Entry, cache: Path = FETCHED) -> Path:
    """The folder with the pinned commit of the entry's repository, fetched where it is not there. Raises RecordingError."""
    origin = entry.origin
    folder = cache / REPOSITORIES / origin.commit  # entries of one source share it
    if not folder.is_dir():
        try:
            git.fetch(origin.repository, origin.commit, folder, origin.paths)
        except git.GitError as error:
            raise RecordingError(
                f"recording {entry.name}: no copy of commit {origin.commit[:7]} of {origin.repository} ({error}); set {origin.variable} to "
                f"a clone or bare repository that has it, or put its runs into $PLUMBLINE_DATA/recordings/{entry.name}"
            ) from error
    if (what := git.edited(folder)) is not None:
        raise RecordingError(f"recording {entry.name}: {folder} is not commit {origin.commit[:7]} ({what}); delete that folder")
    return folder


def _kept(entry: Entry, folder: Path) -> bool:
    """Whether the catalogue names this run; one that it does not name (a warm-up, a pilot) is removed again."""
    if any(split.of(folder.name) for split in entry.split):
        return True
    shutil.rmtree(folder)
    return False


def each(entries: list[Entry]) -> Iterator[tuple[Entry, list[str] | RecordingError]]:
    """Every entry with the runs that it gave, or why it gave none."""
    for entry in entries:
        try:
            yield entry, fetched(entry)
        except RecordingError as error:
            yield entry, error
