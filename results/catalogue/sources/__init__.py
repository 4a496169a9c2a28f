"""A converter per source: from the files of its repository to folders in a form that can be imported (docs/importing.md).

Read first: `plain_folder.py` (what they write), then `blis_trace.py`, the shortest.
"""
