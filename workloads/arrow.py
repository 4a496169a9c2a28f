"""NumPy arrays as Arrow ones, without copying. (pyarrow.array does it too, but imports pandas first, which takes a fifth of a second.)"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

TYPES = {"int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}


def arrow(values: NDArray[Any], *, null: NDArray[np.bool_] | None = None) -> pa.Array:
    """An array of int32, int64 or float64 values; NULL where `null` is true."""
    validity = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(TYPES[values.dtype.name], len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))])


def word(text: str) -> pa.Array:
    """An array of this one string."""
    told = text.encode()
    return pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(told)], dtype=np.int32)), pa.py_buffer(told))


def numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """An int64 or float64 column without NULLs. (Its to_numpy imports pandas, too.)"""
    array = column.combine_chunks()
    kind = next(name for name, made in TYPES.items() if made == column.type)
    return np.frombuffer(array.buffers()[1] or b"", dtype=kind)[array.offset : array.offset + len(array)]
