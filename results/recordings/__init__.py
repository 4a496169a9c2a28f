"""Makes a measured Run of what somebody else recorded (`python -m results import`).

Read first: `import_run.py` (from a recording to a Run), then `recording.py` (what a recording is). `forms.py` lists the forms: `plain.py`
and `servingsim.py` (`servingsim_clock.py` puts its clocks on one) here, those of load generators in `tools/`. `about.py` reads what is said
of a run beside its requests, `shared_blocks.py` finds the prompt blocks that requests share. `simulated_by.py` makes a simulated Run of
somebody's predictions, whose forms `predictions.py` reads.
"""
