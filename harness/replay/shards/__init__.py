"""One schedule, sent by several processes, each pinned to a CPU, with an event loop and connections of its own.

Read first: `share.py` (which process sends what). `crew.py` runs the processes and starts them at one second 0, `worker.py` is one of them,
`merge.py` makes one run of what they saw. Nothing passes between them while they send, but how many answers each has, twice a second.
"""
