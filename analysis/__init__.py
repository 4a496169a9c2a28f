"""Scores simulators against measured runs and reports. Read report.py first (study/ for many cells); fidelity.py computes, verdict.py says,
plots.py draws. Behind fidelity.py: pairs.py (errors), resampling.py and blocks.py (intervals), saturation.py, attribution.py, rankings.py.
"""
