"""Watches a server and its machine during a run.

Read first: `telemetry.py` (a server's own metrics). `gpu.py` has NVIDIA GPUs, `contention.py` the time that other processes took from the
engine's core. `metrics_poller.py` and `gpu_poller.py` are small processes that write a line a poll.
"""
