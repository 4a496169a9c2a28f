"""Scores simulators against measured runs and reports. Read report.py first; fidelity.py computes, verdict.py says, plots.py draws."""
