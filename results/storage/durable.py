"""Files and folders that appear whole or not at all, whatever stops the writer."""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from results.storage.place import Address, Place


@contextmanager
def appearing(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A hidden folder, renamed to `folder` when the block ends well, and removed when it does not."""
    hidden = f".{folder.name}.{uuid.uuid4().hex[:8]}"
    scratch, old = folder.with_name(f"{hidden}.tmp"), folder.with_name(f"{hidden}.old")
    scratch.mkdir()
    try:
        yield scratch
        sync([*scratch.iterdir(), scratch])
        if replace and folder.exists():
            folder.rename(old)
        scratch.rename(folder)  # fails when another process has written this run_id meanwhile: a run folder is never empty
        sync([folder.parent])
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (scratch, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Place, text: str) -> None:
    """Write a file, and the folder for it, whole or not at all. Raises OSError, PlaceError."""
    if isinstance(path, Address):
        path.write_bytes(text.encode())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        sync([scratch])
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def sync(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk. Raises OSError."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
