"""Harness: real engines, measured.

Read first: `bench.py` (the main path of `make bench`), `cell.py` (one engine measured) and `system.py` (what an engine is); `campaign.py`
does many cells on a machine that is had for minutes at a time. Then `client.py` (open-loop replay) with
`sse.py`, `server.py` (a child server's life), `vllm.py`, and `profile.py`, `capacity.py`, `gates.py`.
"""
