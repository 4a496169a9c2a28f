"""The report on a study: many measured runs, every simulator held against them.

Read first: `report.py` (score, say the verdict, write the page). `data.py` reads the study's views. `trust.py` decides which simulator to
trust for what, `words.py` says it. `sections.py`, `findings.py` and `palette.py` make the page, `embed.py` and `samples.py` the numbers
that its script draws from. `table.py` is the study as one table.
"""
