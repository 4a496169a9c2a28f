"""Harness: real engines, measured.

Read first: `__main__.py` (the main path of `make bench`) and `system.py` (what an engine is). Then `client.py` (open-loop replay) with
`sse.py`, `server.py` (a child server's life), `vllm.py`, and `profile.py`, `capacity.py`, `gates.py`.
"""
