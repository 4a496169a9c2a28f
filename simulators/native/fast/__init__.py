"""The compiled engine: what the scheduler `vllm_v1` does on the engine's loop, the same to the last bit, some forty times faster.

Read first: `serve.py` (the way in), then `simulate.py` and `engine.py` (the loop). The readable engine explains what happens: the files
`engine.py`, `vllm_v1.py`, `kv_cache.py` and `block_pool.py` have its names and its functions, over arrays of plain records
(`records.py`, made by `allocate.py`) instead of objects. `obstacle.py` says what this engine does not have.

Numba compiles it when it first runs (half a minute) and keeps what it made beside `engine.py`, in `__pycache__` (`compiled.py`). Of that,
`machine_code.py` keeps what later processes run without importing Numba.
"""
