"""AISimulate (NVIDIA), from PyPI.

Read first: `adapter.py` (the simulator as the bench sees it). `files.py` writes and reads its files, `tables.py` makes its database of
operation times from an engine's profile.
"""
