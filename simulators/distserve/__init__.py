"""DistServe's simulator, from a pinned commit of its repository.

Read first: `adapter.py` (the simulator as the bench sees it). `times.py` fits its formulas of step times to an engine's profile.
`driver.py` runs inside its own environment, `records.py` reads what comes out.
"""
