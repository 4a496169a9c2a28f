"""The run folders below some roots, and what tells whether one of them is still what it was."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.storage.place import Address, Place
from results.storage.store import run_folders

COMPARED = ("run.json", "requests.parquet", "tokens.parquet")  # what must be equal in a copy of a run


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder as it is now.

    state: its files' names, sizes and times of change, hashed: the same as long as nobody touches them. size: of its files, bytes.
    """

    place: Place
    state: str
    size: int

    @property
    def run_id(self) -> str:
        """The run that it holds: a run folder is named after its run."""
        return self.place.name


def folders_in(roots: Sequence[Place]) -> list[RunFolder]:
    """Every run folder in `roots`, in their order; no file is opened. Raises PlaceError."""
    return [found for root in dict.fromkeys(roots) for found in _folders(root)]


def digest_of(folder: Path) -> str:
    """Hash of what a run measured and when: equal for a run and its copy, wherever they are. Raises OSError."""
    whole = hashlib.sha256()
    for name in COMPARED:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _folders(root: Place) -> list[RunFolder]:
    if isinstance(root, Address):
        files: dict[Address, list[tuple[str, int, int]]] = {}
        for found, size, changed in root.listing():  # one answer for all: asking run by run would take a round trip each
            files.setdefault(found.parent, []).append((found.name, size, changed))
        return [_folder(folder, files[folder]) for folder in run_folders(root)]
    return [_folder(folder, _files(folder)) for folder in run_folders(root)]


def _files(folder: Path) -> list[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        return [(entry.name, told.st_size, told.st_mtime_ns) for entry in entries if (told := entry.stat())]


def _folder(place: Place, files: Sequence[tuple[str, int, int]]) -> RunFolder:
    """files: name, bytes, when it was changed."""
    state = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:32]
    return RunFolder(place=place, state=state, size=sum(size for _, size, _ in files))
