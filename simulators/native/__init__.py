"""Our own simulator: an iteration-level discrete-event model of today's engines.

Read first: `engine.py` (the loop: schedule a step, let it take its time, hand the tokens back). Its three parts are seams:
`scheduler.py` says what a policy is (`vllm_v1.py` is one), `kv_cache.py` and `block_pool.py` hold the paged memory, `step_time.py` says
what a step costs (`measured.py` from a profile, `roofline.py` from config.json and the hardware's numbers). `sequence.py` has the nouns.
`native.py` makes a Run of it for the bench; `python -m simulators.native` runs it by itself. All but small traces are served by the
compiled twin of the loop and of `vllm_v1` in `fast/`, where it has what is asked for; the results are the same to the last bit.
"""
