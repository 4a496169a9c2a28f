"""Results: run folders on disk, and the DuckDB database derived from them.

Read first: `record.py` (RequestRecord, Run, EngineLimits, Profile). Then `store.py` (folders), `database.py` with `schema.sql`
and `metrics.sql` (the only place where a metric is defined). `importing.py` makes runs of what others recorded.
"""
