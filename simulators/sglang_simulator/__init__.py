"""SGLang's own simulator, from a clone of SGLang's repository that the user names (tools/sglang-simulator; it is not in SGLang's wheel).

Read first: `adapter.py` (the simulator as the bench sees it). `clone.py` says what of the clone must be there, `files.py` writes what goes
in, `steps.py` its table of step times; `records.py` reads what it writes, `failures.py` why it ended early. `inside/` runs in SGLang's
environment.
"""
