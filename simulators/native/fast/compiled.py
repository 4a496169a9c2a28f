"""How this folder's functions are compiled.

A function that others call is compiled into them. The one that Python calls is kept on disk (`kept`), in the `__pycache__` beside its file,
or in the user's cache folder when that cannot be written; so a fresh clone compiles once. Numba compiles it again when its own file
changes, but looks at no other file. So the key under which it is kept includes a digest of SOURCES, the files that are compiled into it.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])

HERE = Path(__file__).parent
PARTS = ("compiled", "records", "block_pool", "grouped_cache", "kv_cache", "waiting", "vllm_v1", "station", "release", "engine")
SOURCES = [HERE / f"{name}.py" for name in PARTS] + [HERE.parent / "latency" / f"{name}.py" for name in ("step_law", "windows")]
DIGEST = int.from_bytes(hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).digest()[:7], "big")
# No reference counts: these functions make no objects, and counting the holders of 20 arrays at every call takes longer than the rest
OPTIONS: dict[str, Any] = {"_nrt": False}


def compiled(function: Function) -> Function:
    """Compiled when first called, or into the compiled function that calls it."""
    made: Function = njit(**OPTIONS)(function)
    return made


def kept(function: Function) -> Function:
    """Compiled, and kept on disk. The function must close over DIGEST, handed to it by the one that makes it."""
    assert function.__closure__ is not None and DIGEST in [cell.cell_contents for cell in function.__closure__]
    made: Function = njit(cache=True, **OPTIONS)(function)
    return made
