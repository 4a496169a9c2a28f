"""Measures real engines.

Read first: `bench.py` (the main path of `make bench`), then `cell.py` (one engine measured on one workload) and `engine.py` (what an
engine is asked for). `study.py` and `campaign.py` measure many cells; `simulate.py` simulates runs that were measured before.

`replay/` sends the requests. `engines/` starts servers and reads their settings back. `probing/` finds an engine's capacity and its step
times. `monitor/` watches a server and its machine meanwhile. `microbench/` times single operations. `search/` finds the highest load
that meets an SLO. `grid/` has the tasks of studies and
campaigns. Beside them: `gates.py` (when a replay is no measurement), `settings.py` and `protocols.py` (what conf/ fills in), `cli.py`,
`console.py`, `environment.py`, `launchers.py`, `provenance.py`, `simulation.py`.
"""
