"""Code that runs inside an engine, which imports it by its name: this folder is on the engine's PYTHONPATH.

Read first: `vllm_steps_scheduler.py` (vLLM's own scheduler, logging each step).
"""
