"""LLMServingSim (casys-kaist/LLMServingSim, MIT; Python and C++), unedited, from a clone that the user names and has built.

Read first: `adapter.py` (the simulator as the bench sees it). `clone.py` says what of a clone is there, `files.py` what goes in and
comes out.
"""
