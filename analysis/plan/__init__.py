"""The page of a recommendation: which machines, at what cost, and what stands in the way of the others. Read first: `report.py`."""
