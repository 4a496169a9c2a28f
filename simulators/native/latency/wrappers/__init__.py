"""Step times with something on top of another StepTime's.

Read first: `wrapped.py`, which they are made from. `swapping.py` has KV caches that move to the host's memory and back, `drafting.py` the
drafter of speculation.
"""
