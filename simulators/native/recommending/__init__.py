"""Recommends: of all ways to serve a model at a rate within an SLO, the cheapest, those that no other beats, and what limits each.

Read first: `recommend.py` (the grid, each of its ways assessed, the best of them). `assessing.py` looks at one: `bounds.py` says how many
replicas provably do not suffice, `replicas.py` finds the fewest that do, `limiting.py` what stands in their way. `engine_words.py` has
the command lines that start it, `printed.py` what people read.
"""
