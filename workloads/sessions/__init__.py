"""Requests that wait for others: the turns of a session, whose prompts grow by what was said.

Read first: `laws.py` (sessions from laws). `files.py` reads those of files, `growing.py` makes the prompts of both. What the end of a turn
makes due is `workloads/release.py`, which closed loops have too.
"""
