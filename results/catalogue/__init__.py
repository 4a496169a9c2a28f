"""Recordings of real GPUs that others published: which there are, where they are from, what is wrong with them, and how they become runs.

Read first: `entry.py` (what conf/recording/*.yaml says), then `shelf.py` (which are here, and how one is imported). `fetching.py` gets a
source from its public repository, `sources/` reads each source's own files, `listing.py` prints. Nothing of a source is kept in
the project.
"""
