"""Scores simulators against measured runs, and reports.

Read first: `report.py` (score the database, say the answer, write the page). `scoring/` computes, `verdict.py` says it in a sentence,
`plots.py` (with `axes.py`) draws, `page/` makes HTML of it, `tables.py` prints it. `study/` is the same for a study of many cells.
Underneath: `data.py` and `requests.py` read the database, `stats.py` has the statistics, `names.py` what people read.
"""
