"""Run folders on their way from one machine to another: each becomes one compressed tar, and is unpacked into a folder of runs.

Some measuring machines give back only a few files, none of them large or in deep folders. An archive appears whole or not at all.
"""

import filecmp
import shutil
import tarfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from results import operations
from results.operations import Operations
from results.storage.durable import sync
from results.storage.run_tables import StoreError
from results.storage.store import read_run

SUFFIX = ".tar.gz"


def pack(content: Path, archive: Path) -> Path:
    """Write all that is in the folder `content` into `archive`, in place of an older one; return it. Raises OSError."""
    scratch = archive.with_name(f".{archive.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with tarfile.open(scratch, "w:gz", compresslevel=6) as tar:
            for path in sorted(content.iterdir()):
                tar.add(path, arcname=path.name)
        sync([scratch])
        scratch.replace(archive)
        sync([archive.parent])
    finally:
        scratch.unlink(missing_ok=True)
    return archive


def extract(archive: Path, folder: Path) -> Path:
    """The content of `archive` in `folder` (made if need be); return it. Raises StoreError when it is no whole archive."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise StoreError(f"{archive}: cannot be unpacked ({' '.join(str(error).split())}); copy it again from where it was made") from error
    return folder


def unpack_runs(archives: Iterable[Path], root: Path) -> list[Path]:
    """Put the runs of `archives` into root/<run_id>, times of single operations into root/operations/<id>; return the folders that are new.

    Archives without either (of a capacity, of a profile, empty) add nothing. What is there already is left as it is. Everything is
    read before it appears. Raises StoreError for a damaged one, or for another run of the same id.
    """
    new = []
    root.mkdir(parents=True, exist_ok=True)
    for archive in (path for path in archives if path.stat().st_size > 0):
        scratch = root / f".{archive.name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            extract(archive, scratch)
            for folder in [path.parent for path in sorted(scratch.glob("*/run.json"))]:
                read_run(folder)
                if _settle(folder, root / folder.name, "run.json"):
                    new.append(root / folder.name)
            for folder in operations.stored([scratch]):
                Operations.read(folder)
                if _settle(folder, root / operations.FOLDER / folder.name, operations.META):
                    new.append(root / operations.FOLDER / folder.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return new


def _settle(folder: Path, place: Path, told: str) -> bool:
    """Rename `folder` to `place`; False when the same one is there already, by its file `told`."""
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
        sync([place.parent])
        return True
    if not filecmp.cmp(folder / told, place / told, shallow=False):
        raise StoreError(f"{place}: another run of this id is here; move it away, then unpack again")
    return False
