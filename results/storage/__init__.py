"""Run folders on disk or in object storage. A folder is immutable: it appears whole or not at all.

Read first: `store.py` (a Run to files and back). `run_tables.py` has the Parquet tables of a run, `durable.py` files that survive a crash,
`place.py` addresses in object storage, `archive.py` folders on their way between machines, `conformance.py` what the
conformance kit found of a simulator.
"""
