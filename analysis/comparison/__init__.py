"""Two runs, studies or folders of runs held against each other: better, worse, or not to be told.

Read first: `compare.py` (two sides in, differences with verdicts out). `sides.py` finds the runs, `matching.py` the cells that belong
together, `requests_spread.py` and `difference.py` make the intervals, `verdicts.py` the verdicts, `shown.py` what people and programs read.
"""
