"""Requests that wait for others: the turns of a session, whose prompts grow by what was said.

Read first: `laws.py` (sessions from laws). `branches.py` adds sub-agents that work side by side, `files.py` reads the sessions of files,
`growing.py` makes the prompts of all. What the end of a turn makes due is `workloads/release.py`, which closed loops have too.
"""
