"""What was measured and simulated: run folders on disk, and the DuckDB database derived from them.

Read first: `record.py` (RequestRecord, Run, EngineLimits). `record_table.py` and `token_times.py` hold many records as columns.
`profile.py` has an engine's step times, `operations.py` times of single operations.

`storage/` writes and reads run folders, `recordings/` makes runs of what others recorded, `catalogue/` knows such recordings. `database.py`
builds the database and `derived/` what it holds of each run; its tables and views are in `schema.sql`, `metrics.sql` (the only place where
a metric is defined), `kept.sql`, `dialects.sql` and `study.sql`. `cells.py` and `identity.py` say which runs repeat one another. `live.py`
has the metrics of requests that are in no run folder, `summary.py` what is shown of them. `project/` says where the project lies, and its
caller.
"""
