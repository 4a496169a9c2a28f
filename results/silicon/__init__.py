"""Measured points of real GPUs, one number a configuration: not runs, for nobody recorded their requests. Read first: `points.py`."""
