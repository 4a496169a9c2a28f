"""What a step costs.

Read first: `step_time.py` (a batch in, seconds out), then `measured.py` (fitted to a profile) and `roofline.py` (computed from the sizes of
`shape.py` and the hardware's numbers). Both put their times into a `step_law.py`, which the compiled engine evaluates, too. `own_steps.py`
takes them from the steps of the run itself. `wrapped.py` is what a StepTime around another one is, `swapping.py` one of those.
"""
