"""The conformance kit: small traces with known answers tell what a simulator models, beside what it says of itself.

Read first: `check.py`. `cases/` has the traces, `law.py` the step times that every simulator is calibrated from here, `scene.py` what a
simulator is given, `answer.py` how what comes out is read, `coverage.py` what it all comes to. `__main__.py` is
`./plumbline simulator check`.
"""
