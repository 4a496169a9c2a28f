"""BLIS (inference-sim/inference-sim, Apache-2.0), unedited, from a binary that the user builds.

Read first: `adapter.py`; `files.py` has what goes in and what comes out.
"""
