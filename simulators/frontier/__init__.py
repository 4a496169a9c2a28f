"""Frontier (NetX-lab/Frontier, MIT), a fork of Vidur with mixtures of experts and disaggregation, unedited, from a user's clone.

Read first: `adapter.py` (the simulator as the bench sees it). `files.py` has what goes into it, `records.py` what comes out. `tables.py`
makes its profiling files from an engine's profile, `known_steps.py` says how well it then knows the engine's steps; `profiles.py` finds
those that it ships.
"""
