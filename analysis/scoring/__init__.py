"""How far each simulator is off, and how surely.

Read first: `fidelity.py` (scores a database), then `pairs.py` (scores one simulated run). `resampling.py` and `blocks.py` make intervals.
`saturation.py` says on which side of the knee a run is, `attribution.py` why a simulator errs, `rankings.py` what choosing by it costs.
"""
