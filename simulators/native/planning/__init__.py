"""Answers a planner, who has no engine at hand: latencies, the highest rate within an SLO, settings against each other.

Read first: `deployment.py` (engines of a model on some hardware, and what is asked of them). `capacity.py` finds the highest rate, from
shares of good requests (`attainment.py`) that `judge.py` simulates; `compare.py` finds the settings that no other beats, `settings.py`
reads the command line.
"""
