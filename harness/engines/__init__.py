"""The engines that Plumbline can measure, one class each, and what several of them need.

Read first: `vllm.py` (an engine: its command line, and its settings read back). `sglang.py`, `vllm_pd.py` (with `pd_proxy.py`),
`attached.py` (a server that somebody else runs) and `recorded.py` (a stored run) are the others.

`server.py` has the life of a child server, and `supervisor.py` the process between us and it. `model.py` makes a model folder without
weights, `hf_model.py` takes one with weights. `limits.py` reads what a server says of its limits. `step_log.py` reads its log of steps,
which `plugins/` makes vLLM write.
"""
