"""Answers a planner, who has no engine at hand: latencies, the highest rate within an SLO, settings against each other.

Read first: `deployment.py` (engines of a model on some hardware, and what is asked of them). `highest_rate.py` bisects, `compare.py` finds
the settings that no other beats, `settings.py` reads the command line.
"""
