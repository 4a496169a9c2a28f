"""Where the step times of the calibrated track come from. conf/calibration names one of these sources.

Read first: `sources.py` (what a source is, and the first one: the engine's own profile). `aic.py` composes a profile from the operation
times of aiconfigurator-core: `tables.py` reads and interpolates them, `operations.py` adds them up to steps, `points.py` chooses the steps.
`servingsim.py` does it from LLMServingSim's layer times, which `layer_tables.py` reads. `first_requests.py` fits a profile to the first
requests of the run itself; only the rest is scored then. `other_run.py` fits one to a whole other run: `whole_fit.py` has the numbers,
`targets.py` what they are judged by, `law_around.py` makes it quick; `bases.py` has what both scale. `from_steps.py` fits a law to a step
log, which `step_logs.py` reads.
"""
