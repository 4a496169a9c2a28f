"""Closed loops of measured points on simulators: what is predicted of a server of which only TTFT and TPOT were measured.

Read first: `native_points.py`; then `schedule.py`, which says why one schedule serves many points.
"""
