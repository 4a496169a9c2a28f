"""The cases, by what they are about.

Read first: `laws.py`, which must hold of any simulator. `limits.py` has the engine's limits, `rest.py` what else a run without a
real model shows, `sizes.py` what a model's sizes and the number of devices do.
"""
