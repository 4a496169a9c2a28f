"""The compiled engine: what `vllm_v1` does on `engine.py`'s loop, with the same results to the last bit, some forty times faster.

Read the readable one first: the files here have its names (`engine.py`, `vllm_v1.py`, `kv_cache.py`, `block_pool.py`) and its functions,
over arrays of plain records (`records.py`) instead of objects. `obstacle.py` says what it does not have, `serve.py` is the way in.
Numba compiles it when it first runs (10 to 20 s) and keeps the machine code beside `engine.py`, in `__pycache__` (`compiled.py`).
"""
