"""Workloads: what is asked of an engine or a simulator.

Read first: `trace.py` (Request, Trace). Then `datasets.py` (files into traces), `synthetic.py` (laws into traces),
`arrivals.py`, `lengths.py`, and `prompts.py` (a request's token ids).
"""

from workloads.trace import Request, Trace, TraceError

__all__ = ["Request", "Trace", "TraceError"]
