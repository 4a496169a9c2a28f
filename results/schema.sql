-- The tables of results/plumbline.duckdb, filled from the run folders by results/database.py. Times are float seconds since the
-- trace's start; unknown is NULL, never 0. Everything derived from these rows alone is a view: metrics.sql, dialects.sql, study.sql.
-- The tables from `fidelity` on are filled by `python -m analysis report` or `table` (analysis/scoring/fidelity.py, score).

CREATE TABLE plumbline (
    schema VARCHAR NOT NULL,             -- digest of the code that made this file; with another one, columns, views or cells may be others
    metrics VARCHAR NOT NULL,            -- digest of the SQL that its run_values come from
    scored VARCHAR                       -- digest of the code and settings that scored it; NULL: not scored, or runs have changed since
);

-- The run folders that this file was made from. A folder whose state is the same is not opened again.
CREATE TABLE folders (
    path VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,             -- in two roots when a run and its copy are both there: the first counts
    state VARCHAR NOT NULL,              -- digest of its files' names, sizes and times of change
    digest VARCHAR NOT NULL              -- digest of the run's content
);

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,               -- 'measured' or 'simulated'
    system VARCHAR NOT NULL,             -- vllm, sglang, vidur, ...
    version VARCHAR,                     -- the system's own
    track VARCHAR,                       -- shipped, matched, calibrated, or oracle (a diagnosis, no score); NULL when measured
    measured_run_id VARCHAR,             -- the run that a simulated one is held against, if any
    workload VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    rho DOUBLE,                          -- offered load / measured capacity
    rate DOUBLE,                         -- requests per second asked for
    repeat INTEGER NOT NULL,
    study VARCHAR,                       -- the study that the run is part of, if any
    cell VARCHAR,                        -- the same for runs that differ in the repeat only; a simulated run has that of its measured run
    configuration VARCHAR,               -- the same for the same engine, settings, model and hardware, on whatever requests
    trace_sha256 VARCHAR NOT NULL,
    valid BOOLEAN NOT NULL,
    invalid_reason VARCHAR,
    started_at TIMESTAMP NOT NULL,       -- UTC
    wall_s DOUBLE NOT NULL,              -- seconds that the replay or the simulation took
    window_start DOUBLE,                 -- the measurement window, by arrival, both ends inside; NULL: the whole run
    window_end DOUBLE,
    slo_ttft DOUBLE,                     -- limits of a good request in seconds; NULL: no limit
    slo_tpot DOUBLE,
    slo_e2e DOUBLE,
    kv_tokens BIGINT,                    -- what the engine resolved its configuration to (EngineLimits)
    block_size INTEGER,
    max_num_seqs INTEGER,
    max_num_batched_tokens INTEGER,
    max_model_len INTEGER,
    chunked_prefill BOOLEAN,
    prefix_caching BOOLEAN,
    tensor_parallel INTEGER,
    pipeline_parallel INTEGER,
    data_parallel INTEGER,
    expert_parallel INTEGER,
    config JSON NOT NULL,                -- infinite and undefined numbers as the strings 'Infinity', '-Infinity', 'NaN'
    provenance JSON NOT NULL,
    path VARCHAR NOT NULL                -- the run's folder
);

CREATE TABLE requests (
    run_id VARCHAR NOT NULL,
    request_id BIGINT NOT NULL,
    arrival DOUBLE NOT NULL,             -- when the trace says that it arrives: the intended send time
    sent DOUBLE,                         -- first byte handed to the socket
    scheduled DOUBLE,                    -- first scheduled by the engine
    first_token DOUBLE,                  -- first chunk with content read, be it reasoning or answer
    finished DOUBLE,                     -- last chunk with content read
    input_tokens BIGINT,                 -- the server's own usage figures
    output_tokens BIGINT,
    cached_tokens BIGINT,
    error VARCHAR,                       -- NULL, or what went wrong
    first_output_token DOUBLE,           -- first chunk of the answer read, after all reasoning; NULL: the server does not tell them apart
    adapter VARCHAR,                     -- the LoRA adapter that it asked for; NULL: the model itself
    num_token_times BIGINT               -- its rows in `tokens`; NULL when the system shows no token times
);

-- tokens (run_id, request_id, token_index, time), one row per output token, is a view over the tokens.parquet of all runs, where they lie:
-- results/derived/content.py makes it. A campaign has a hundred million rows, and few questions ask for more than one run's.

CREATE TABLE telemetry (run_id VARCHAR NOT NULL, time DOUBLE NOT NULL, name VARCHAR NOT NULL, value DOUBLE);

-- The requests that were asked, once per distinct trace. Token counts here are the trace's; those in `requests` are the server's.
CREATE TABLE trace_requests (
    trace_sha256 VARCHAR NOT NULL,
    request_id BIGINT NOT NULL,
    arrival DOUBLE NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    num_blocks BIGINT NOT NULL,          -- leading prompt blocks that it may share with others
    session BIGINT                       -- the session whose turn it is; NULL: it is in none
);

-- The metrics of every run, computed once when the run comes into the database, by the SQL of metrics.sql: kept.sql answers from them.
CREATE TABLE run_values (run_id VARCHAR NOT NULL, metric VARCHAR NOT NULL, stat VARCHAR, value DOUBLE);

-- One row per pair and statistic. error: (simulated - measured) / measured; noise: the spread between repeats of the measured run,
-- relative; NULL without repeats. analysis/scoring/fidelity.py says which metrics and stats there are, and how the interval is made.
CREATE TABLE fidelity (
    measured_run_id VARCHAR NOT NULL,
    simulated_run_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    track VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    stat VARCHAR,
    measured DOUBLE,
    simulated DOUBLE,
    error DOUBLE,
    error_low DOUBLE,
    error_high DOUBLE,
    noise DOUBLE
);

-- The pairs that have their rows in `fidelity` and `fidelity_parts`. digest: of both runs, and of the code and settings that scored them.
CREATE TABLE scored_runs (run_id VARCHAR NOT NULL, digest VARCHAR NOT NULL);  -- the same of `saturation`
CREATE TABLE scored_pairs (measured_run_id VARCHAR NOT NULL, simulated_run_id VARCHAR NOT NULL, digest VARCHAR NOT NULL);

-- The same on a part of the requests: 'unsaturated', those that arrived before the measured run's change point, and 'saturated'.
-- Only of pairs whose measured run has both.
CREATE TABLE fidelity_parts AS SELECT *, NULL::VARCHAR AS part FROM fidelity;

-- Where a run's queue begins to grow for good; analysis/scoring/saturation.py has the rule. One row per run.
CREATE TABLE saturation (
    run_id VARCHAR NOT NULL,
    change_point DOUBLE,                 -- s; NULL: the queue keeps its level
    requests BIGINT,                     -- that arrive from the change point on; NULL: the run is too short to tell
    growth DOUBLE,                       -- how many more requests wait at the last arrival than at the change point
    saturated BOOLEAN,                   -- the run has a change point, so it is on the far side of the knee; NULL: it is too short to tell
    capacity DOUBLE                      -- requests/s that it serves from the change point on; NULL: it is not known to be saturated
);

-- Why a simulator errs: signed seconds that lead from its mean latency in `track` to the measured one; analysis/scoring/attribution.py says
-- what each part is. simulated + the sum of the values = measured.
CREATE TABLE attribution (
    measured_run_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    track VARCHAR NOT NULL,              -- the track that it starts from
    metric VARCHAR NOT NULL,
    stat VARCHAR NOT NULL,
    position INTEGER NOT NULL,           -- order of the parts; a part that cannot be told apart has no row
    part VARCHAR NOT NULL,               -- kv_capacity, step_times, scheduling, frontend, unexplained
    value DOUBLE NOT NULL,
    simulated DOUBLE NOT NULL,
    measured DOUBLE NOT NULL
);

-- What choosing a configuration by a simulator costs: one row per simulator, axis, setting of all other axes, and metric;
-- analysis/scoring/rankings.py says how. regret: how much worse the simulator's choice is than the best one, both as measured, relative.
CREATE TABLE rankings (
    study VARCHAR,
    system VARCHAR NOT NULL,
    track VARCHAR NOT NULL,
    axis VARCHAR NOT NULL,               -- engine, max_num_batched_tokens, replicas, ...
    setting VARCHAR NOT NULL,            -- what the compared cells have in common, in words
    metric VARCHAR NOT NULL,
    stat VARCHAR,
    cells INTEGER NOT NULL,              -- compared with each other
    kendall_tau DOUBLE,                  -- NULL when all cells are equal as measured, or as simulated
    regret DOUBLE,
    measured_best VARCHAR NOT NULL,
    simulated_best VARCHAR NOT NULL
);
