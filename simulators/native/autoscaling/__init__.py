"""A day whose rate is not flat, on replicas that are started and stopped while it goes on: how many GPU-hours, and who is served in time.

Read first: `day.py` (the answer), then `fleet.py` (replicas on one clock) and `rules.py` (how many there should be). `rates.py` is the rate
over the day, `requests.py` what is asked when, `classes.py` whose limits count, `sizing.py` how much one replica sustains. `printed.py`
and `day_file.py` show it.
"""
