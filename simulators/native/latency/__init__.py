"""What a step costs.

Read first: `step_time.py` (a batch in, seconds out), then `measured.py` (fitted to a profile), `stairs.py` (fitted to an engine's own
steps), `given.py` (a law that a profile brings along) and `roofline.py` (computed from the sizes of `simulators/native/architecture`, a
`device.py`, `efficiency.py` and `host.py`; `experts.py` has mixtures of them, `parallelism.py` several devices, `windows.py` attention
that does not look back all the way). They put their times into a `step_law.py`, which the compiled engine evaluates, too.
`profile_work.py` is what the fits share. `own_steps.py` takes step times from the steps of the run itself. `wrappers/` has
what comes on top of another StepTime.
"""
