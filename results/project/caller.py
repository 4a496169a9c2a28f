"""Where a command was typed: `./plumbline` changes into the project's folder, and says here from where it came."""

import os
from pathlib import Path

VARIABLE = "PLUMBLINE_CALLER"  # the caller's folder; not set for who stands in the project's, and for `python -m`


def given(path: str) -> str:
    """A path of the command line as this process finds it: a relative one means the caller's folder. An address (s3://...) stays."""
    folder = os.environ.get(VARIABLE)
    return path if folder is None or "://" in path else str(Path(folder, path))


def given_path(path: str) -> Path:
    """See given()."""
    return Path(given(path))
