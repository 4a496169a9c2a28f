-- The views of a study: cells, scores over repeats, knees, why a simulator errs, what its choices cost. Views over the rows of
-- schema.sql; where a number needs more than SQL (intervals, change points) it comes from the tables that analysis/ fills.
-- A study's runs share `runs.study`; a run outside a study has a cell all the same. docs/queries.md has a query per figure.

-- Every simulated run beside the run it is held against. refusal: why the two cannot be compared; NULL: they can.
CREATE VIEW pairs AS
SELECT
    simulated.run_id AS simulated_run_id, simulated.measured_run_id, simulated.system, simulated.track, measured.system AS engine,
    measured.study, measured.cell, measured.valid,
    CASE
        WHEN simulated.measured_run_id IS NULL THEN 'it is held against no measured run'
        WHEN measured.run_id IS NULL THEN 'its measured run ' || simulated.measured_run_id || ' is not in the database'
        WHEN measured.trace_sha256 <> simulated.trace_sha256 THEN 'not the same requests: its trace is ' || simulated.trace_sha256
            || ', that of ' || measured.run_id || ' is ' || measured.trace_sha256
    END AS refusal
FROM runs AS simulated LEFT JOIN runs AS measured ON measured.run_id = simulated.measured_run_id AND measured.kind = 'measured'
WHERE simulated.kind = 'simulated';

-- The cells of a study: measured runs that differ in the repeat only. repeats: valid ones, the only ones that count; invalid: the others.
-- capacity: requests/s as the harness measured it, median. saturated: of the valid repeats that are long enough to tell, most are on the
-- far side of the knee; NULL: no repeat is long enough.
CREATE VIEW cells AS
SELECT
    cell, study, any_value(system) AS system, any_value(model) AS model, any_value(hardware) AS hardware,
    any_value(workload) AS workload, median(rho) AS rho, median(rate) AS rate,
    count(*) FILTER (valid) AS repeats,
    count(*) FILTER (NOT valid) AS invalid,
    median(TRY_CAST(config ->> '$.capacity.rate' AS DOUBLE)) FILTER (valid) AS capacity,
    avg(saturated::INTEGER) FILTER (valid) > 0.5 AS saturated
FROM runs LEFT JOIN saturation USING (run_id)
WHERE kind = 'measured'
GROUP BY study, cell;

-- Scores per cell, over its valid repeats: medians of measured, simulated and error. The interval is the union of the repeats' own:
-- it covers the choice of requests and the spread between repeats, and is wider than 95 % where there are several repeats. It is unknown
-- when the interval of a repeat is.
-- noise_multiple: |error| as a multiple of the noise floor; NULL where the cell was measured once.
-- failed: share of the requests in the window that the simulator refused or lost, mean; the errors are over the other requests.
CREATE VIEW cell_fidelity AS
WITH losses AS (
    SELECT run_id AS simulated_run_id, value AS failed FROM run_values WHERE metric = 'error_rate'
)
SELECT
    pairs.study, pairs.cell, fidelity.system, fidelity.track, metric, stat,
    median(measured) AS measured, median(simulated) AS simulated, median(error) AS error,
    CASE WHEN count(error_low) = count(error) THEN min(error_low) END AS error_low,
    CASE WHEN count(error_high) = count(error) THEN max(error_high) END AS error_high,
    any_value(noise) AS noise, abs(median(error)) / nullif(any_value(noise), 0) AS noise_multiple,
    count(*) AS repeats, avg(failed) AS failed
FROM fidelity JOIN pairs USING (simulated_run_id) LEFT JOIN losses USING (simulated_run_id)
WHERE pairs.valid
GROUP BY pairs.study, pairs.cell, fidelity.system, fidelity.track, metric, stat;

-- The table of a paper: a simulator's error over the cells of a study. error: median over cells, signed; abs_error: median size;
-- worst: the largest size; noise_multiple: median over the noise_cells that were repeated. Each simulator is over its own cells.
CREATE VIEW study_scores AS
SELECT
    study, system, track, metric, stat, count(error) AS cells,
    median(error) AS error, median(abs(error)) AS abs_error, max(abs(error)) AS worst,
    median(noise_multiple) AS noise_multiple, count(noise_multiple) AS noise_cells
FROM cell_fidelity
GROUP BY study, system, track, metric, stat;

-- What a simulator was asked and what it gave. cells: those with a valid run. scored: those of them that it was scored on. failed: share of
-- the requests in its scored runs that it refused or lost. same_side: cells that it puts on the same side of the knee as the measurement,
-- of the side_known cells, where both runs are long enough to tell. speed: seconds of trace simulated per second of wall clock.
CREATE VIEW coverage AS
WITH asked AS (
    SELECT study, count(*) AS cells FROM cells WHERE repeats > 0 GROUP BY study
), failures AS (
    SELECT run_id, count(*) AS requests, count(*) FILTER (error IS NOT NULL OR finished IS NULL) AS failed FROM requests GROUP BY run_id
), spans AS (
    SELECT run_id, max(finished) - min(arrival) AS seconds FROM requests GROUP BY run_id
), sides AS (
    SELECT study, cell, system, track, median((simulated.saturated = measured.saturated)::INTEGER) AS agrees
    FROM pairs JOIN saturation AS simulated ON simulated.run_id = simulated_run_id
    JOIN saturation AS measured ON measured.run_id = measured_run_id
    WHERE valid AND refusal IS NULL
    GROUP BY study, cell, system, track
)
SELECT
    pairs.study, pairs.system, pairs.track, any_value(asked.cells) AS cells,
    count(DISTINCT pairs.cell) FILTER (pairs.valid AND refusal IS NULL) AS scored,
    sum(requests) FILTER (pairs.valid AND refusal IS NULL) AS requests,
    sum(failed) FILTER (pairs.valid AND refusal IS NULL) / sum(requests) FILTER (pairs.valid AND refusal IS NULL) AS failed,
    count(*) FILTER (refusal IS NOT NULL) AS refused,
    any_value(agreement.cells) AS same_side, any_value(agreement.known) AS side_known,
    sum(seconds) FILTER (pairs.valid AND refusal IS NULL) AS seconds,
    sum(wall_s) FILTER (pairs.valid AND refusal IS NULL) AS wall_s,
    sum(seconds) FILTER (pairs.valid AND refusal IS NULL) / nullif(sum(wall_s) FILTER (pairs.valid AND refusal IS NULL), 0) AS speed
FROM pairs JOIN runs ON runs.run_id = simulated_run_id
JOIN failures ON failures.run_id = simulated_run_id JOIN spans ON spans.run_id = simulated_run_id
LEFT JOIN asked ON asked.study IS NOT DISTINCT FROM pairs.study
LEFT JOIN (
    SELECT study, system, track, count(*) FILTER (agrees = 1) AS cells, count(agrees) AS known FROM sides GROUP BY study, system, track
) AS agreement ON agreement.study IS NOT DISTINCT FROM pairs.study AND agreement.system = pairs.system AND agreement.track = pairs.track
WHERE pairs.track <> 'oracle'
GROUP BY pairs.study, pairs.system, pairs.track;

-- The latency-throughput knee, and goodput against the rate: a row per cell for the engine itself (track NULL) and for every simulator.
-- Medians over valid repeats. saturated: this system is on the far side of the knee; measured_saturated: the engine is; NULL: its
-- runs are too short to tell. max_num_seqs to tensor_parallel: as the engine resolved its configuration.
-- capacity: requests/s that it serves when saturated (see `saturation`); NULL below the knee, where it is above request_rate.
CREATE VIEW knees AS
WITH ran AS (
    SELECT run_id, run_id AS measured_run_id, system, NULL AS track FROM runs WHERE kind = 'measured' AND valid
    UNION ALL
    SELECT simulated_run_id, measured_run_id, system, track FROM pairs WHERE valid AND refusal IS NULL AND track <> 'oracle'
), summaries AS (
    SELECT
        run_id,
        any_value(value) FILTER (metric = 'offered_rate') AS offered_rate,
        any_value(value) FILTER (metric = 'request_rate') AS request_rate,
        any_value(value) FILTER (metric = 'output_throughput') AS output_throughput,
        any_value(value) FILTER (metric = 'goodput') AS goodput,
        any_value(value) FILTER (metric = 'slo_attainment') AS slo_attainment,
        any_value(value) FILTER (metric = 'ttft' AND stat = 'p50') AS ttft_p50,
        any_value(value) FILTER (metric = 'ttft' AND stat = 'p99') AS ttft_p99,
        any_value(value) FILTER (metric = 'tpot' AND stat = 'p50') AS tpot_p50,
        any_value(value) FILTER (metric = 'tpot' AND stat = 'p99') AS tpot_p99,
        any_value(value) FILTER (metric = 'e2e' AND stat = 'p50') AS e2e_p50,
        any_value(value) FILTER (metric = 'e2e' AND stat = 'p99') AS e2e_p99
    FROM run_values
    GROUP BY run_id
)
SELECT
    m.study, m.cell, m.system AS engine, m.model, m.hardware, m.workload, ran.system, ran.track,
    any_value(m.configuration) AS configuration, any_value(m.max_num_seqs) AS max_num_seqs,
    any_value(m.max_num_batched_tokens) AS max_num_batched_tokens, any_value(m.chunked_prefill) AS chunked_prefill,
    any_value(m.prefix_caching) AS prefix_caching, any_value(m.tensor_parallel) AS tensor_parallel,
    median(m.rho) AS rho, median(m.rate) AS rate, median(COLUMNS(summaries.* EXCLUDE (run_id))),
    avg(saturation.saturated::INTEGER) > 0.5 AS saturated, avg(measured.saturated::INTEGER) > 0.5 AS measured_saturated,
    median(saturation.capacity) AS capacity
FROM ran JOIN runs AS m ON m.run_id = ran.measured_run_id
JOIN summaries ON summaries.run_id = ran.run_id
LEFT JOIN saturation ON saturation.run_id = ran.run_id LEFT JOIN saturation AS measured ON measured.run_id = ran.measured_run_id
GROUP BY m.study, m.cell, m.system, m.model, m.hardware, m.workload, ran.system, ran.track;

-- Where each system saturates, requests/s, per engine, its configuration (of all its settings, a hash; those that it resolved are columns)
-- and workload. capacity: median over the saturated_cells, those in which it is saturated. unsaturated_up_to: the highest offered rate at
-- which it is not saturated; a system that never is has a capacity above that.
CREATE VIEW capacities AS
SELECT
    study, engine, model, hardware, workload, configuration,
    any_value(COLUMNS(['max_num_seqs', 'max_num_batched_tokens', 'chunked_prefill', 'prefix_caching', 'tensor_parallel'])), system, track,
    median(capacity) AS capacity, count(capacity) AS saturated_cells,
    max(offered_rate) FILTER (NOT saturated) AS unsaturated_up_to
FROM knees
GROUP BY study, engine, model, hardware, workload, configuration, system, track;

-- The waterfall of a cell: means over its valid repeats, so that the parts still add up; where a repeat lacks a part, the part counts as 0.
CREATE VIEW cell_attribution AS
WITH falls AS (
    SELECT study, cell, attribution.*
    FROM attribution JOIN runs ON runs.run_id = attribution.measured_run_id
    WHERE valid
), ends AS (
    SELECT
        study, cell, system, track, metric, stat, avg(simulated) AS simulated, avg(measured) AS measured, count(*) AS repeats
    FROM (SELECT DISTINCT study, cell, measured_run_id, system, track, metric, stat, simulated, measured FROM falls)
    GROUP BY study, cell, system, track, metric, stat
)
SELECT
    ends.study, ends.cell, ends.system, ends.track, ends.metric, ends.stat, position, part, sum(value) / any_value(repeats) AS value,
    any_value(ends.simulated) AS simulated, any_value(ends.measured) AS measured, any_value(repeats) AS repeats
FROM falls JOIN ends ON ends.study IS NOT DISTINCT FROM falls.study AND ends.cell = falls.cell AND ends.system = falls.system
    AND ends.track = falls.track AND ends.metric = falls.metric AND ends.stat = falls.stat
GROUP BY ends.study, ends.cell, ends.system, ends.track, ends.metric, ends.stat, position, part;

-- Little's law, L = lambda W, from the first sending to the last token. It holds exactly when L and W are of the same records, and would
-- then show nothing; so L is taken from the engine's own gauges of running and waiting requests, read about once a second.
-- expected_in_system: what the records say at the same instants. ratio: mean_in_system / (arrival_rate * mean_e2e); E2E is from sending
-- on, and the ratio has a sampling error.
-- A gauge is one or two steps old, so it misses the newest requests: lag is twice the step that an arrival finds under way on average
-- (sum of squares over sum of the steps that decode, from the engine's step log), in s; 0 without a log.
-- ok: mean_in_system is at most the tolerance above expected_in_system, and at most the tolerance and arrival_rate * lag below it. The
-- tolerance is 5 % of expected_in_system (time outside the engine) and two standard errors. NULL with fewer than 5 looks, or with requests
-- whose end is unknown.
CREATE VIEW littles_law AS
WITH totals AS (
    SELECT
        run_id, min(sent) AS first_sent, max(finished) AS last_finished,
        count(sent) / nullif(max(finished) - min(sent), 0) AS arrival_rate,
        CASE WHEN count(*) FILTER (sent IS NOT NULL AND finished IS NULL) = 0 THEN avg(finished - sent) END AS mean_e2e
    FROM requests
    GROUP BY run_id
), gauges AS (
    SELECT run_id, time, sum(value) AS in_system
    FROM telemetry JOIN totals USING (run_id)
    WHERE name IN ('num_requests_running', 'num_requests_waiting', 'num_running_reqs', 'num_queue_reqs', 'requests_processing', 'requests_deferred')
        AND time BETWEEN first_sent AND last_finished
    GROUP BY run_id, time
    HAVING count(*) = 2
), looks AS (
    SELECT run_id, time, any_value(in_system) AS in_system, count(*) FILTER (sent <= time AND finished > time) AS by_records
    FROM gauges JOIN requests USING (run_id)
    GROUP BY run_id, time
), sums AS (
    SELECT
        run_id, count(*) AS looks, avg(in_system) AS mean_in_system, avg(by_records) AS expected_in_system,
        0.05 * expected_in_system + 2 * stddev_samp(in_system - by_records) / sqrt(count(*)) AS tolerance
    FROM looks
    GROUP BY run_id
    HAVING count(*) >= 5
), steps AS (
    SELECT run_id, bool_or(name = 'step_decode_batch') AS decodes, time - lag(time) OVER (PARTITION BY run_id ORDER BY time) AS seconds
    FROM telemetry
    WHERE starts_with(name, 'step_')
    GROUP BY run_id, time
), lags AS (
    SELECT run_id, 2 * sum(seconds * seconds) / nullif(sum(seconds), 0) AS lag FROM steps WHERE decodes GROUP BY run_id
)
SELECT
    run_id, coalesce(looks, 0) AS looks, mean_in_system, expected_in_system, arrival_rate, mean_e2e,
    mean_in_system / nullif(arrival_rate * mean_e2e, 0) AS ratio,
    coalesce(lag, 0) AS lag,
    CASE WHEN mean_e2e IS NOT NULL
        THEN mean_in_system - expected_in_system BETWEEN -tolerance - arrival_rate * coalesce(lag, 0) AND tolerance
    END AS ok
FROM runs LEFT JOIN totals USING (run_id) LEFT JOIN sums USING (run_id) LEFT JOIN lags USING (run_id);

-- Each request measured beside simulated: the parity plots.
CREATE VIEW parity AS
SELECT
    study, cell, pairs.measured_run_id, simulated_run_id, system, track, one.request_id,
    one.ttft AS measured_ttft, other.ttft AS simulated_ttft, one.tpot AS measured_tpot, other.tpot AS simulated_tpot,
    one.e2e AS measured_e2e, other.e2e AS simulated_e2e
FROM pairs JOIN request_metrics AS one ON one.run_id = measured_run_id
JOIN request_metrics AS other ON other.run_id = simulated_run_id AND other.request_id = one.request_id
WHERE valid AND refusal IS NULL AND track <> 'oracle' AND one.in_window;

-- Distribution functions: the share of a run's requests (inside the window, not failed) with a latency up to `value`.
CREATE VIEW latency_cdf AS
SELECT run_id, metric, value, cume_dist() OVER (PARTITION BY run_id, metric ORDER BY value) AS share
FROM (UNPIVOT (SELECT run_id, ttft, tpot, e2e FROM request_metrics WHERE in_window AND NOT failed)
    ON ttft, tpot, e2e INTO NAME metric VALUE value);

-- A request's life as stretches of time: the Gantt chart. Without a time at which it was scheduled (vLLM's
-- API), the phase is 'queued or prefill'.
CREATE VIEW phases AS
SELECT run_id, request_id, phase, start, stop
FROM (
    SELECT run_id, request_id, unnest([
        {'phase': 'queued', 'start': arrival, 'stop': scheduled},
        {'phase': 'prefill', 'start': scheduled, 'stop': first_token},
        {'phase': 'queued or prefill', 'start': CASE WHEN scheduled IS NULL THEN arrival END, 'stop': first_token},
        {'phase': 'decode', 'start': first_token, 'stop': finished}], recursive := true)
    FROM requests
)
WHERE start IS NOT NULL AND stop IS NOT NULL;
