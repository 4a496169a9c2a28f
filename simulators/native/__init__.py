"""Our own simulator: an iteration-level discrete-event model of today's engines.

Read first: `engine.py` (the loop: schedule a step, let it take its time, hand its tokens back), then `sequence.py` (the nouns). What the
loop asks lies in three folders: `scheduling/` (what the next step computes), `kv/` (the KV memory), `latency/` (what a step costs).

`serve.py` serves a trace on one engine, and `served.py` says what comes of it. `cluster/` serves it on several. `fast/` is the compiled
twin of the loop and of the scheduler `vllm_v1`: all but small traces go there where it has what is asked for, and the results are the
same to the last bit. `effects/` changes the model or its KV cache.

`resolve.py` finds an engine's limits. `predictor.py` puts all of it together. `adapter.py` makes a Run of it for the bench; `planning/`,
`recommending/`, `autoscaling/` and `__main__.py` answer a planner (`python -m simulators.native`).
"""
