-- Every metric of Plumbline, defined here and nowhere else, over the rows of schema.sql: engines and simulators are scored by the same
-- lines. Seconds, tokens, requests. Unknown is NULL. A request failed when it has an error or never finished: it is never
-- good, it has no latency, and its tokens are not counted. Percentiles are quantile_cont (linear interpolation between ranks, as in numpy).

-- The measurement window of a run. A run without one is measured whole: from its first arrival to its last token.
CREATE VIEW windows AS
SELECT
    run_id,
    coalesce(any_value(window_start), min(arrival)) AS window_start,
    coalesce(any_value(window_end), greatest(max(arrival), max(finished))) AS window_end
FROM runs JOIN requests USING (run_id)
GROUP BY run_id;

-- One row per request. TTFT and E2E count from the intended arrival, so that a late client hides nothing ('coordinated omission').
-- In a session the arrival of a turn is the end of the last turn that it waited for, plus its delay. In a closed loop it is the moment at which the request's slot became free: when the last byte of the answer before it was read, or that
-- request failed. dispatch_lag, TTFT and E2E have the same meaning there; offered_rate is then the engine's doing.
-- ttft: to the first token of any kind, reasoning or answer. ttfo: to the first token of the answer, after all reasoning (AIPerf's time to
-- first output token); NULL where the server does not tell the two apart. tpot: NULL for one token. good: meets every limit of the run's SLO; NULL when that cannot be known (a limit on something unknown).
CREATE VIEW request_metrics AS
WITH latencies AS (
    SELECT
        run_id, request_id, arrival, output_tokens, slo_ttft, slo_tpot, slo_e2e,
        arrival BETWEEN windows.window_start AND windows.window_end AS in_window,
        error IS NOT NULL OR finished IS NULL AS failed,
        sent - arrival AS dispatch_lag,
        CASE WHEN NOT failed THEN first_token - arrival END AS ttft,
        CASE WHEN NOT failed THEN first_token - sent END AS ttft_sent,
        CASE WHEN NOT failed THEN first_output_token - arrival END AS ttfo,
        CASE WHEN NOT failed AND output_tokens > 1 THEN (finished - first_token) / (output_tokens - 1) END AS tpot,
        CASE WHEN NOT failed THEN finished - arrival END AS e2e,
        CASE WHEN NOT failed THEN scheduled - arrival END AS queue
    FROM requests JOIN runs USING (run_id) JOIN windows USING (run_id)
)
SELECT
    run_id, request_id, in_window, failed, ttft, ttft_sent, ttfo, tpot, e2e, queue, dispatch_lag,
    NOT failed
        AND (slo_ttft IS NULL OR ttft <= slo_ttft)
        AND (slo_tpot IS NULL OR output_tokens = 1 OR tpot <= slo_tpot)  -- one token has no gap to be late with
        AND (slo_e2e IS NULL OR e2e <= slo_e2e) AS good
FROM latencies;

-- The gap before each token; NULL before a request's first.
CREATE VIEW token_gaps AS
SELECT run_id, request_id, token_index, time - lag(time) OVER (PARTITION BY run_id, request_id ORDER BY token_index) AS gap FROM tokens;

-- One row per gap between two tokens of a request that did not fail, under the index of the later one.
CREATE VIEW itl AS
SELECT run_id, request_id, token_index, in_window, gap AS itl
FROM token_gaps JOIN request_metrics USING (run_id, request_id)
WHERE gap IS NOT NULL AND NOT failed;

-- How many of a request's n output tokens were produced in [low, high]. Token k = 0 ... n - 1 is taken to come at
-- first_token + k * (finished - first_token) / (n - 1), for all systems alike, whether or not they show token times.
CREATE MACRO tokens_inside(first_token, finished, n, low, high) AS
CASE
    WHEN n IS NULL OR first_token IS NULL OR finished IS NULL THEN NULL
    WHEN n <= 1 OR finished <= first_token THEN CASE WHEN first_token BETWEEN low AND high THEN n ELSE 0 END
    ELSE greatest(
        0,
        CASE WHEN finished <= high THEN n - 1 ELSE floor((high - first_token) * (n - 1) / (finished - first_token)) END
        - CASE WHEN first_token >= low THEN 0 ELSE ceil((low - first_token) * (n - 1) / (finished - first_token)) END
        + 1
    )
END;

-- Etalon's fluidity (project-etalon/etalon @ d5f18de, etalon/metrics/metric_utils.py, get_request_level_deadline_miss_rate): deadlines
-- slo_ttft for the first token and slo_tpot for each gap. A token in time meets one deadline and leaves its slack to the next ones; a
-- late one misses (gap - slack) // deadline of them (the first token 1 + (ttft - slo_ttft) // slo_tpot) and the slack starts anew.
-- fluidity = 1 - missed / (met + missed). Rows: requests that did not fail; NULL where the token times or the limits are unknown.
CREATE MACRO floor_divide(a, b) AS round((a - a % b) / b);  -- exact for a >= 0, b > 0: Python's a // b

CREATE VIEW request_fluidity AS
WITH gaps AS (
    SELECT run_id, request_id, token_index, gap
    FROM token_gaps SEMI JOIN (FROM requests WHERE num_token_times > 0) USING (run_id, request_id)
    WHERE token_index > 0
), longest AS (
    SELECT run_id, request_id, max(gap) AS longest_gap, count(*) AS gaps FROM gaps GROUP BY run_id, request_id
), starts AS (
    SELECT
        run_id, request_id, in_window, num_token_times > 0 AND slo_tpot > 0 AS known, slo_tpot AS deadline,
        coalesce(longest_gap > deadline, false) AS may_miss, coalesce(gaps, 0) AS gaps,
        CASE WHEN ttft <= slo_ttft
            THEN {'gap': 0.0::DOUBLE, 'slack': slo_ttft - ttft, 'missed': 0.0::DOUBLE, 'met': 1.0::DOUBLE}
            ELSE {'gap': 0.0::DOUBLE, 'slack': 0.0::DOUBLE, 'missed': 1 + floor_divide(ttft - slo_ttft, slo_tpot), 'met': 0.0::DOUBLE}
        END AS start
    FROM request_metrics JOIN runs USING (run_id) JOIN requests USING (run_id, request_id) LEFT JOIN longest USING (run_id, request_id)
    WHERE NOT failed
), chains AS (  -- of the requests that have a gap beyond the deadline; in the others every gap meets it, whatever the slack
    SELECT
        run_id, request_id,
        list({'gap': gap, 'slack': 0.0::DOUBLE, 'missed': 0.0::DOUBLE, 'met': 0.0::DOUBLE} ORDER BY token_index) AS steps
    FROM gaps SEMI JOIN (FROM starts WHERE known AND may_miss) USING (run_id, request_id)
    GROUP BY run_id, request_id
), ends AS (
    SELECT
        run_id, request_id, in_window,
        CASE
            WHEN known AND NOT may_miss THEN {'gap': 0.0::DOUBLE, 'slack': 0.0::DOUBLE, 'missed': start.missed, 'met': start.met + gaps}
            WHEN known THEN list_reduce(
                list_prepend(start, steps),
                lambda state, token: CASE WHEN token.gap <= deadline + state.slack
                    THEN {'gap': 0.0::DOUBLE, 'slack': state.slack + (deadline - token.gap), 'missed': state.missed, 'met': state.met + 1}
                    ELSE {'gap': 0.0::DOUBLE, 'slack': 0.0::DOUBLE,
                        'missed': state.missed + floor_divide(token.gap - state.slack, deadline), 'met': state.met}
                END
            )
        END AS state
    FROM starts LEFT JOIN chains USING (run_id, request_id)
)
SELECT run_id, request_id, in_window, state.missed AS missed, state.missed + state.met AS deadlines, 1 - missed / deadlines AS fluidity
FROM ends;

-- The statistics of a run's latencies, over requests that arrived inside the window and did not fail; NULL over nothing.
CREATE VIEW run_latencies AS
WITH samples AS (
    UNPIVOT (
        SELECT run_id, ttft, ttft_sent, ttfo, tpot, e2e, queue, dispatch_lag FROM request_metrics WHERE in_window AND NOT failed
    ) ON ttft, ttft_sent, ttfo, tpot, e2e, queue, dispatch_lag INTO NAME metric VALUE value
    UNION ALL
    SELECT run_id, 'itl' AS metric, itl AS value FROM itl WHERE in_window
), summaries AS (
    SELECT run_id, metric, avg(value) AS mean, quantile_cont(value, [0.5, 0.9, 0.95, 0.99]) AS quantiles
    FROM samples
    GROUP BY run_id, metric
)
SELECT run_id, metric, stat, CASE stat WHEN 'mean' THEN mean ELSE quantiles[rank] END AS value
FROM runs
CROSS JOIN (VALUES ('ttft'), ('ttft_sent'), ('ttfo'), ('tpot'), ('itl'), ('e2e'), ('queue'), ('dispatch_lag')) AS metrics (metric)
CROSS JOIN (VALUES ('mean', 0), ('p50', 1), ('p90', 2), ('p95', 3), ('p99', 4)) AS stats (stat, rank)
LEFT JOIN summaries USING (run_id, metric);

-- A run's rates, one column each. All per second of the window's length (NULL when it has none) unless said otherwise.
-- Throughput counts the tokens that were produced inside the window, whenever their request arrived; input tokens count at first_token.
-- Of requests that arrived inside the window: offered_rate, goodput, slo_attainment (good / all), error_rate (failed / all).
-- cached_fraction: prompt tokens from the prefix cache / prompt tokens; NULL unless every request that did not fail reports both.
-- duration: seconds from the run's first arrival to its last token.
CREATE VIEW run_rates AS
WITH parts AS (
    SELECT
        requests.*, m.* EXCLUDE (run_id, request_id), window_start, window_end,
        tokens_inside(first_token, finished, output_tokens, window_start, window_end) AS output_inside,
        CASE WHEN first_token BETWEEN window_start AND window_end THEN input_tokens WHEN first_token IS NOT NULL THEN 0 END AS input_inside
    FROM requests JOIN request_metrics m USING (run_id, request_id) JOIN windows USING (run_id)
), totals AS (
    SELECT
        run_id,
        CASE WHEN any_value(window_end - window_start) > 0 THEN any_value(window_end - window_start) END AS length,
        count(*) FILTER (in_window) AS arrived,
        CASE WHEN count(*) FILTER (NOT failed AND output_inside IS NULL) = 0
            THEN coalesce(sum(output_inside) FILTER (NOT failed), 0) END AS output_tokens,
        CASE WHEN count(*) FILTER (NOT failed AND input_inside IS NULL) = 0
            THEN coalesce(sum(input_inside) FILTER (NOT failed), 0) END AS input_tokens,
        count(*) FILTER (NOT failed AND finished BETWEEN window_start AND window_end) AS completed,
        CASE WHEN count(*) FILTER (in_window AND good IS NULL) = 0 THEN count(*) FILTER (in_window AND good) END AS good,
        count(*) FILTER (in_window AND failed) AS failures,
        CASE WHEN count(*) FILTER (in_window AND NOT failed AND (cached_tokens IS NULL OR requests.input_tokens IS NULL)) = 0
            THEN sum(cached_tokens) FILTER (in_window AND NOT failed) / sum(requests.input_tokens) FILTER (in_window AND NOT failed)
        END AS cached_fraction,
        max(finished) FILTER (NOT failed) - min(arrival) AS duration
    FROM parts AS requests
    GROUP BY run_id
), smoothness AS (
    SELECT
        run_id,
        CASE WHEN count(*) FILTER (missed IS NULL) = 0 THEN 1 - sum(missed) / sum(deadlines) END AS fluidity
    FROM request_fluidity
    WHERE in_window
    GROUP BY run_id
)
SELECT
    run_id,
    output_tokens / length AS output_throughput,
    (input_tokens + output_tokens) / length AS total_throughput,
    completed / length AS request_rate,
    arrived / length AS offered_rate,
    good / length AS goodput,
    good / nullif(arrived, 0) AS slo_attainment,
    failures / nullif(arrived, 0) AS error_rate,
    cached_fraction,
    fluidity,
    duration
FROM totals LEFT JOIN smoothness USING (run_id);

-- Energy that the engine's GPUs took during a measured run's window, J, and per output token produced in it, from their power as sampled
-- (telemetry gpu<i>_power_w): the trapezoid mean over the samples in the window, times its length; GPUs are added up. NULL without samples
-- over 90 % of the window. Idle power is part of it: a lightly loaded GPU takes more per token.
CREATE VIEW run_energy AS
WITH steps AS (
    SELECT
        run_id, name, window_end - window_start AS length, time - lag(time) OVER series AS seconds,
        (value + lag(value) OVER series) / 2 AS watts
    FROM telemetry JOIN windows USING (run_id)
    WHERE regexp_full_match(name, 'gpu\d+_power_w') AND time BETWEEN window_start AND window_end
    WINDOW series AS (PARTITION BY run_id, name ORDER BY time)
), gpus AS (
    SELECT
        run_id,
        CASE WHEN sum(seconds) >= 0.9 * any_value(length) THEN any_value(length) * sum(seconds * watts) / sum(seconds) END AS energy
    FROM steps
    GROUP BY run_id, name
), totals AS (
    SELECT run_id, CASE WHEN count(*) = count(energy) THEN sum(energy) END AS energy FROM gpus GROUP BY run_id
)
SELECT
    run_id, energy, energy / nullif(output_throughput * (window_end - window_start), 0) AS energy_per_output_token,
    energy / nullif((total_throughput - output_throughput) * (window_end - window_start), 0) AS energy_per_input_token
FROM run_rates JOIN windows USING (run_id) LEFT JOIN totals USING (run_id);

-- What a run's devices cost, USD: price_per_hour (of one device: hardware.price_per_hour when it was measured) times their number, for the
-- seconds of the window, over the tokens of the window. Input and output tokens each carry the whole cost, and so does their sum: the three
-- are one cost seen in three ways, not to be added up. NULL where the price is not known; where prefill and decode are on instances of
-- their own, as the runs do not say whether these share devices; and over no token.
-- devices: of all replicas; data-parallel attention (SGLang) shares the devices of one. Of a simulated arrangement: of all its instances.
CREATE VIEW run_cost AS
WITH priced AS (
    SELECT
        run_id,
        CASE WHEN (config -> '$.engine.prefill') IS NULL THEN
            tensor_parallel * pipeline_parallel
            * CASE WHEN (config ->> '$.engine.details.server_info.enable_dp_attention') = 'true' THEN 1 ELSE data_parallel END
            * coalesce(TRY_CAST(config ->> '$.simulator.settings.arrangement.instances' AS INTEGER), 1)
        END AS devices,
        CASE WHEN TRY_CAST(config ->> '$.hardware.price_per_hour' AS DOUBLE) > 0
            THEN TRY_CAST(config ->> '$.hardware.price_per_hour' AS DOUBLE) END AS price_per_hour
    FROM runs
)
SELECT
    run_id, devices, price_per_hour, devices * price_per_hour / 3600 AS cost_per_second,
    1e6 * cost_per_second / nullif(total_throughput - output_throughput, 0) AS cost_per_million_input_tokens,
    1e6 * cost_per_second / nullif(output_throughput, 0) AS cost_per_million_output_tokens,
    1e6 * cost_per_second / nullif(total_throughput, 0) AS cost_per_million_tokens
FROM priced JOIN run_rates USING (run_id);

-- Sessions: a row per turn, in the order in which the turns became due. cached_share: prompt tokens from the prefix cache / prompt tokens.
CREATE VIEW session_turns AS
SELECT
    run_id, session, request_id,
    row_number() OVER (PARTITION BY run_id, session ORDER BY arrival, request_id) AS turn,
    arrival, finished, failed, ttft, e2e, input_tokens, cached_tokens, cached_tokens / nullif(input_tokens, 0) AS cached_share
FROM (SELECT run_id, trace_sha256 FROM runs)
JOIN (SELECT trace_sha256, request_id, session FROM trace_requests WHERE session IS NOT NULL) USING (trace_sha256)
JOIN (SELECT run_id, request_id, arrival, finished, input_tokens, cached_tokens FROM requests) USING (run_id, request_id)
JOIN (SELECT run_id, request_id, failed, ttft, e2e FROM request_metrics) USING (run_id, request_id);

-- A row per session. time_to_last_answer: from the first turn's arrival to the last token of the last turn, thinking and tools included;
-- NULL when a turn failed. turns_per_minute: turns over that time.
CREATE VIEW session_metrics AS
SELECT
    run_id, session, count(*) AS turns, count(*) FILTER (failed) AS failed_turns,
    CASE WHEN failed_turns = 0 THEN max(finished) - min(arrival) END AS time_to_last_answer,
    60 * turns / nullif(time_to_last_answer, 0) AS turns_per_minute
FROM session_turns
GROUP BY run_id, session;

-- A run's cached share by the number of the turn: of the turns that did not fail; NULL unless each of them reports both counts.
CREATE VIEW turn_cache AS
SELECT
    run_id, turn, count(*) AS turns,
    CASE WHEN count(cached_share) = count(*) THEN sum(cached_tokens) / sum(input_tokens) END AS cached_share
FROM session_turns
WHERE NOT failed
GROUP BY run_id, turn;

-- All of a run's metrics in long form: what analysis/ pairs and scores. stat is NULL for a rate. Every run has every row.
CREATE VIEW run_metrics AS
SELECT run_id, metric, stat, value FROM run_latencies
UNION ALL
SELECT run_id, metric, NULL AS stat, value
FROM run_rates UNPIVOT INCLUDE NULLS (value FOR metric IN (COLUMNS(* EXCLUDE run_id)));
