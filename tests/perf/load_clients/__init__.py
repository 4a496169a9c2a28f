"""Load clients side by side on one null server, and ours at what only it does. Read first: `tests/perf/load_clients/__main__.py`.

`foreign.py` has the command line of each other client and reads what it reports, `side_by_side.py` runs one and works out its figures,
`ours.py` has sessions, closed loops and several processes. docs/client.md has the tables.
"""
