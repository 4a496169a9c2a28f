"""Where the step times of the calibrated track come from. conf/calibration names one of three sources, each with one method `profile`.

`sources.py` (read first): the engine's own profile. `aic.py`: a profile composed from the operation times of aiconfigurator-core
(`tables.py` reads and interpolates them, `operations.py` adds them up to steps, `points.py` chooses the steps).
`first_requests.py`: a profile fitted to the first requests of the run itself; only the rest is scored.
"""
