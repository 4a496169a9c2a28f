"""Where the step times of the calibrated track come from. conf/calibration names one of three sources.

Read first: `sources.py` (what a source is, and the first one: the engine's own profile). `aic.py` composes a profile from the operation
times of aiconfigurator-core: `tables.py` reads and interpolates them, `operations.py` adds them up to steps, `points.py` chooses the steps.
`first_requests.py` fits a profile to the first requests of the run itself; only the rest is scored then.
"""
