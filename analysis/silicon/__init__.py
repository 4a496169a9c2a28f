"""The page of a study of measured points: how far predictions of TTFT and TPOT are off, and where. Read first: `report.py`."""
