-- The tables of results/plumbline.duckdb, filled from the run folders by results/database.py. Times are float seconds since the
-- trace's start; unknown is NULL, never 0. Everything derived from these rows is a view: metrics.sql, dialects.sql.

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,               -- 'measured' or 'simulated'
    system VARCHAR NOT NULL,             -- vllm, sglang, vidur, ...
    version VARCHAR,                     -- the system's own
    track VARCHAR,                       -- shipped, matched, calibrated; NULL when measured
    measured_run_id VARCHAR,             -- the run that a simulated one is held against, if any
    workload VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL,
    rho DOUBLE,                          -- offered load / measured capacity
    rate DOUBLE,                         -- requests per second asked for
    repeat INTEGER NOT NULL,
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
    first_token DOUBLE,                  -- first chunk with content read
    finished DOUBLE,                     -- last chunk with content read
    input_tokens BIGINT,                 -- the server's own usage figures
    output_tokens BIGINT,
    cached_tokens BIGINT,
    error VARCHAR,                       -- NULL, or what went wrong
    num_token_times BIGINT               -- its rows in `tokens`; NULL when the system shows no token times
);

CREATE TABLE tokens (run_id VARCHAR NOT NULL, request_id BIGINT NOT NULL, token_index INTEGER NOT NULL, time DOUBLE NOT NULL);

CREATE TABLE telemetry (run_id VARCHAR NOT NULL, time DOUBLE NOT NULL, name VARCHAR NOT NULL, value DOUBLE);

-- What was asked, once per distinct trace: the counts here are the trace's, those in `requests` the server's.
CREATE TABLE trace_requests (
    trace_sha256 VARCHAR NOT NULL,
    request_id BIGINT NOT NULL,
    arrival DOUBLE NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    num_blocks BIGINT NOT NULL           -- leading prompt blocks that it may share with others
);

-- Filled by analysis/fidelity.py. error: (simulated - measured) / measured; noise: the spread between repeats, relative.
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
