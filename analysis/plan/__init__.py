"""The pages of planning: a recommendation, a day, settings compared. Read first: `report.py`."""
