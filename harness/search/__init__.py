"""Searches a live engine for the highest load that meets the SLO.

Read first: `search.py` (the main path of `./plumbline search`). `share.py` says how many requests of a run were good, and how surely;
`bracket.py` what the runs of all loads say together; `belief.py` where to measure next; `forecast.py` what a simulator expects, which is
where the belief begins; `trials.py` makes a run of a load, and `found.py` is the answer, for people and programs.
"""
