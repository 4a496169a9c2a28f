"""What kernels reach of the peaks of each GPU that has published operation tables. Read first: `dense.py`; then `grouped.py`."""
