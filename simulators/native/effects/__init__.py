"""What a change to the model or its KV cache does to serving: bytes, FLOPs and memory, never what it does to the answers.

Read first: `effects.py` (the options, and how they apply). `formats.py` has KV in fewer bits, `kernels.py` generations of
attention kernels, `attended.py` caches that keep or read a part of the context, `traffic.py` what lies in host memory, `reuse.py`
chunks that were computed before.
"""
