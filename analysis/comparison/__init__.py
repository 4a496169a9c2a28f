"""Two runs, studies or folders of runs held against each other: better, worse, or not to be told.

Read first: `compare.py` (two sides in, differences with verdicts out). `sides.py` finds the runs (`git_states.py` those of a commit of an
engine), `matching.py` the cells that belong together, `requests_spread.py` and `difference.py` make the intervals, `verdicts.py` the
verdicts, `shown.py` what people and programs read, `page.py` the page.
"""
