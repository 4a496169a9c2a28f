"""Workloads: what is asked of an engine or a simulator.

Read first: `trace.py` (Request, Trace). Two classes make traces: `datasets.py` (from files, whose formats are in `sources.py`) and
`synthetic.py` (from laws: `arrivals.py`, `lengths.py`). `prompts.py` makes a request's token ids, `files.py` writes and reads a Trace,
`rows.py` turns a file's lines into one.
"""

from workloads.trace import Request, Trace, TraceError

__all__ = ["Request", "Trace", "TraceError"]
