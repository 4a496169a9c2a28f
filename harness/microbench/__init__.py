"""Times single operations of one transformer layer on a device, as Vidur's authors profile one.

Read first: `benchmarks.py` (what is timed, and the table of times that comes of it). `driver.py` runs in the engine's environment and times
the kernels of `kernels.py`.

Beside that, `python -m harness.microbench engine=vllm_cpu` measures what an engine's API server takes of the CPU: `frontend.py`, with the
requests of `prose.py`.
"""
