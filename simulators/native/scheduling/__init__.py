"""Scheduling policies: each decides what an engine's next step computes.

Read first: `scheduler.py` (what a policy is, and the limits that it keeps), then `vllm_v1.py` (one of them). `policies.py` has all by name:
`vllm_v0.py`, `orca.py` and `sarathi.py` decide one step at a time (`synchronous.py` is what they share). `sglang.py` is SGLang's, with
`sglang_jobs.py`, `sglang_prefill.py` and `sglang_options.py`. `waiting.py` has the waiting queues.
"""
