"""Makes a measured Run of what somebody else recorded (`python -m results import`).

Read first: `import_run.py` (from a recording to a Run), then `recording.py` (what a recording is). `plain.py` and `servingsim.py` read
its two forms (`servingsim_clock.py` puts the clocks of the second on one), `shared_blocks.py` finds the prompt blocks that requests share.
"""
