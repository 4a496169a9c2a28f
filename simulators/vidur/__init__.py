"""Vidur (Georgia Tech and Microsoft), from PyPI or from its repository.

Read first: `adapter.py` (the simulator as the bench sees it). `files.py` writes what goes into it, `records.py` reads what it writes.
`tables.py` makes its profiling files from an engine's profile, `device_times.py` from times of single operations; `profile_times.py` says
how well it then knows the engine's steps. `driver.py` runs inside its own environment.
"""
