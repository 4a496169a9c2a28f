"""What the foreign simulators share: their code, their processes, and the step times that they are given.

Read first: `program.py` (a program in its own environment: files in, files out, a limit of CPU time). `checkout.py` fetches pinned commits,
`clone.py` takes a clone that the user names. `step_times.py` makes step times of an engine's profile, `step_points.py` asks for them at any
point, `robust_fit.py` fits formulas to them. `vidur_kin.py` has what Vidur and its forks have in common.
"""
