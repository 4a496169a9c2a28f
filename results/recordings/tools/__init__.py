"""The files that load generators write about a run, as recordings: one file here for each form.

Read first: `tool_file.py` (what is taken of such a file, and how the rest is asked for). `vllm_bench.py` and `sglang_bench.py` share
`client_arrays.py` and `start_times.py`; `content.py` recognises and parses.
"""
