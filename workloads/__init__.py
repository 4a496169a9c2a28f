"""What is asked of an engine or a simulator: requests, their lengths and their arrivals.

Read first: `trace.py` (Request, Trace). Two files make traces: `datasets.py` (from real ones, whose formats are in `sources.py`) and
`synthetic.py` (from laws: `arrivals.py`, `lengths.py`). `prompts.py` makes a request's token ids, `files.py` writes and reads a Trace,
`rows.py` turns a file's lines into one. `columns.py` and `arrow.py` hold long traces as arrays. `correlation.py` says how
much alike neighbouring requests are. `release.py` says what the end of a request makes due; `sessions/` has those that wait for others.
"""
