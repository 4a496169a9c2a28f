"""Splitwise-sim, from a pinned commit of its repository.

Read first: `adapter.py` (the simulator as the bench sees it). `files.py` writes what goes into it, its table of step times among them;
`records.py` reads what it writes. `driver.py` runs inside its own environment.
"""
