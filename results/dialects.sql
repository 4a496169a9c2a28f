-- The other tools' definitions of their metrics, so that a run can be held against each tool's own printout. Names of metrics are the
-- tools' own without their unit suffix; values in seconds, tokens per second, requests per second unless the name says otherwise.
--
-- What all have in common: no window, so all of a run's requests count; latencies count from the moment of sending (LoadGen alone takes
-- the scheduled one); a request that failed has no latency. Where a tool counts chunks of the stream, a chunk is taken to be one token.
--
-- vllm            vllm 0.32.0, vllm/benchmarks/serve.py, calculate_metrics
-- sglang          sgl-project/sglang @ 0033168, python/sglang/bench_serving.py, calculate_metrics
-- aiperf          ai-dynamo/aiperf @ db4f639, aiperf/metrics/types/; GenAI-Perf (triton-inference-server/perf_analyzer @ 263c5f6,
--                 genai_perf/profile_data_parser/llm_profile_data_parser.py) is the same, but counts failed requests in its throughput
-- guidellm        vllm-project/guidellm @ ee7a774, src/guidellm/schemas/request_stats.py and statistics.py
-- inference_perf  kubernetes-sigs/inference-perf @ 7de5ef2, inference_perf/reportgen/base.py, summarize_requests
-- llmperf         ray-project/llmperf @ f1d6bed, token_benchmark_ray.py and openai_chat_completions_client.py
-- loadgen         mlcommons/inference @ b66003e, loadgen/results.cc and logging.cc, scenario Server with token latencies

-- Requests that did not fail, timed from when they were sent. n: output tokens.
CREATE VIEW dialect_requests AS
SELECT
    run_id, request_id, arrival, sent, first_token, finished, input_tokens, output_tokens AS n, slo_ttft, slo_tpot, slo_e2e,
    first_token - sent AS ttft,
    first_output_token - sent AS ttfo,
    finished - sent AS latency,
    CASE WHEN n > 1 THEN (finished - first_token) / (n - 1) END AS tpot
FROM requests JOIN runs USING (run_id) JOIN (SELECT run_id, request_id, failed FROM request_metrics) USING (run_id, request_id)
WHERE NOT failed;

-- One row per run: the sums that the tools' rates are made of. NULL where a count is unknown. Second 0 is the start of the benchmark.
CREATE VIEW dialect_totals AS
SELECT
    run_id, count(*) AS completed, min(sent) AS first_sent, max(finished) AS last_finished, sum(latency) AS latencies, max(n) AS longest,
    CASE WHEN count(input_tokens) = count(*) THEN sum(input_tokens) END AS input_tokens,
    CASE WHEN count(n) = count(*) THEN sum(n) END AS output_tokens,
    arg_max(finished, arrival) AS finished_of_last_issued,
    any_value(slo_ttft IS NOT NULL OR slo_tpot IS NOT NULL OR slo_e2e IS NOT NULL) AS has_slo,
    count(*) FILTER (coalesce(ttft <= slo_ttft, slo_ttft IS NULL) AND coalesce(tpot <= slo_tpot, slo_tpot IS NULL OR n <= 1)
        AND coalesce(latency <= slo_e2e, slo_e2e IS NULL)) AS good_vllm,  -- TPOT 0 for one token
    count(*) FILTER (coalesce(ttft <= slo_ttft, slo_ttft IS NULL) AND coalesce(tpot <= slo_tpot, slo_tpot IS NULL)
        AND coalesce(latency <= slo_e2e, slo_e2e IS NULL)) AS good_aiperf,  -- no ITL for one token: not good
    count(*) FILTER (coalesce(n > 1 AND ttft <= slo_ttft, slo_ttft IS NULL) AND coalesce(tpot <= slo_tpot, slo_tpot IS NULL)
        AND coalesce(latency <= slo_e2e, slo_e2e IS NULL)) AS good_inference_perf  -- neither TTFT nor TPOT for one token: not good
FROM dialect_requests
GROUP BY run_id;

-- One row per value that a tool takes a mean and percentiles of; weight: how often it counts.
CREATE VIEW dialect_samples AS
WITH samples AS (
    SELECT 'vllm' AS dialect, run_id, unnest([{'metric': 'ttft', 'value': ttft}, {'metric': 'tpot', 'value': tpot},
        {'metric': 'e2el', 'value': latency}]) AS sample, 1 AS weight
    FROM dialect_requests
    UNION ALL
    SELECT 'sglang', run_id, unnest([{'metric': 'ttft', 'value': ttft}, {'metric': 'tpot', 'value': tpot},
        {'metric': 'e2e_latency', 'value': latency}]), 1
    FROM dialect_requests
    UNION ALL  -- its ITL is a mean per request, what others call TPOT
    SELECT 'aiperf', run_id, unnest([{'metric': 'time_to_first_token', 'value': ttft}, {'metric': 'inter_token_latency', 'value': tpot},
        {'metric': 'request_latency', 'value': latency}, {'metric': 'output_token_throughput_per_user', 'value': 1 / nullif(tpot, 0)},
        {'metric': 'time_to_first_output_token', 'value': ttfo}]), 1
    FROM dialect_requests
    UNION ALL
    SELECT 'guidellm', run_id, unnest([{'metric': 'time_to_first_token', 'value': ttft},
        {'metric': 'request_latency', 'value': latency}]), 1
    FROM dialect_requests
    UNION ALL  -- its TPOT includes the first token's wait
    SELECT 'guidellm', run_id, {'metric': 'time_per_output_token', 'value': latency / n}, n FROM dialect_requests WHERE n > 0
    UNION ALL
    SELECT 'guidellm', run_id, {'metric': 'inter_token_latency', 'value': tpot}, n - 1 FROM dialect_requests WHERE n > 1
    UNION ALL  -- a request of one token counts as not streamed: no TTFT
    SELECT 'inference_perf', run_id, unnest([{'metric': 'request_latency', 'value': latency},
        {'metric': 'time_per_output_token', 'value': tpot},
        {'metric': 'time_to_first_token', 'value': CASE WHEN n > 1 THEN ttft END},
        {'metric': 'normalized_time_per_output_token', 'value': CASE WHEN n > 0 THEN latency / n ELSE 0 END}]), 1
    FROM dialect_requests
    UNION ALL  -- its inter-token latency is the latency per chunk, first one included
    SELECT 'llmperf', run_id, unnest([{'metric': 'ttft', 'value': ttft}, {'metric': 'inter_token_latency', 'value': latency / nullif(n, 0)},
        {'metric': 'end_to_end_latency', 'value': latency},
        {'metric': 'request_output_throughput_token_per_s', 'value': n / nullif(latency, 0)}]), 1
    FROM dialect_requests
    UNION ALL  -- it refuses requests of one token
    SELECT 'loadgen', run_id, unnest([{'metric': 'latency', 'value': finished - arrival},
        {'metric': 'first_token_latency', 'value': first_token - arrival}, {'metric': 'time_per_output_token', 'value': tpot}]), 1
    FROM dialect_requests
    UNION ALL
    SELECT unnest(['vllm', 'sglang']), run_id, {'metric': 'itl', 'value': itl}, 1 FROM itl
    UNION ALL
    SELECT 'inference_perf', run_id, {'metric': 'inter_token_latency', 'value': itl}, 1 FROM itl
)
SELECT dialect, run_id, sample.metric AS metric, sample.value AS value, weight FROM samples WHERE value IS NOT NULL;

-- Percentiles are numpy's linear ones, but GuideLLM takes the first value at which the cumulated weight reaches p of its sum, and LoadGen
-- the value of rank floor(p * count), from 0. Over nothing (all failed; no second token) vLLM and SGLang print 0, the others nothing.
CREATE MACRO step_quantile(p, dialect, value, reached, total) AS
    min(value) FILTER (reached >= CASE dialect WHEN 'loadgen' THEN floor(p::DOUBLE * total) + 1 ELSE p::DOUBLE * total END);

CREATE VIEW dialect_latencies AS
WITH ranked AS (
    SELECT
        *, sum(weight) OVER (PARTITION BY dialect, run_id, metric ORDER BY value) AS reached,
        sum(weight) OVER (PARTITION BY dialect, run_id, metric) AS total
    FROM dialect_samples
    WHERE dialect IN ('guidellm', 'loadgen')
), summaries AS (
    SELECT dialect, run_id, metric, avg(value) AS mean, quantile_cont(value, [0.5, 0.9, 0.95, 0.99]) AS quantiles
    FROM dialect_samples
    WHERE dialect NOT IN ('guidellm', 'loadgen')
    GROUP BY dialect, run_id, metric
    UNION ALL
    SELECT
        dialect, run_id, metric, sum(value * weight) / sum(weight),
        [step_quantile(0.5, dialect, value, reached, total), step_quantile(0.9, dialect, value, reached, total),
            step_quantile(0.95, dialect, value, reached, total), step_quantile(0.99, dialect, value, reached, total)]
    FROM ranked
    GROUP BY dialect, run_id, metric
)
SELECT
    dialect, run_id, metric, stat,
    CASE
        WHEN summaries.mean IS NOT NULL THEN CASE stat WHEN 'mean' THEN mean ELSE quantiles[rank] END
        WHEN dialect IN ('vllm', 'sglang') AND metric <> 'e2e_latency'
            AND (completed IS NULL OR (metric IN ('tpot', 'itl') AND longest <= 1)) THEN 0
    END AS value
FROM runs LEFT JOIN dialect_totals USING (run_id)
CROSS JOIN (
    VALUES ('vllm', 'ttft'), ('vllm', 'tpot'), ('vllm', 'itl'), ('vllm', 'e2el'),
    ('sglang', 'ttft'), ('sglang', 'tpot'), ('sglang', 'itl'), ('sglang', 'e2e_latency'),
    ('aiperf', 'time_to_first_token'), ('aiperf', 'inter_token_latency'), ('aiperf', 'request_latency'),
    ('aiperf', 'output_token_throughput_per_user'), ('aiperf', 'time_to_first_output_token'),
    ('guidellm', 'time_to_first_token'), ('guidellm', 'time_per_output_token'), ('guidellm', 'inter_token_latency'),
    ('guidellm', 'request_latency'),
    ('inference_perf', 'time_to_first_token'), ('inference_perf', 'time_per_output_token'), ('inference_perf', 'inter_token_latency'),
    ('inference_perf', 'normalized_time_per_output_token'), ('inference_perf', 'request_latency'),
    ('llmperf', 'ttft'), ('llmperf', 'inter_token_latency'), ('llmperf', 'end_to_end_latency'),
    ('llmperf', 'request_output_throughput_token_per_s'),
    ('loadgen', 'latency'), ('loadgen', 'first_token_latency'), ('loadgen', 'time_per_output_token')
) AS metrics (dialect, metric)
CROSS JOIN (VALUES ('mean', 0), ('p50', 1), ('p90', 2), ('p95', 3), ('p99', 4)) AS stats (stat, rank)
LEFT JOIN summaries USING (dialect, run_id, metric);

-- Rates that count good requests are there only when the run has a limit.
CREATE VIEW dialect_rates AS
WITH spans AS (
    SELECT
        *, nullif(last_finished, 0) AS since_start, nullif(last_finished - first_sent, 0) AS since_first,
        CASE WHEN has_slo THEN 1 END AS limited
    FROM dialect_totals
), rates AS (
    SELECT 'vllm' AS dialect, run_id, unnest([
        {'metric': 'request_throughput', 'value': completed / since_start},
        {'metric': 'request_goodput', 'value': limited * good_vllm / since_start},
        {'metric': 'output_throughput', 'value': output_tokens / since_start},
        {'metric': 'total_token_throughput', 'value': (input_tokens + output_tokens) / since_start}]) AS rate
    FROM spans
    UNION ALL
    SELECT 'sglang', run_id, unnest([
        {'metric': 'request_throughput', 'value': completed / since_start},
        {'metric': 'input_throughput', 'value': input_tokens / since_start},
        {'metric': 'output_throughput', 'value': output_tokens / since_start},
        {'metric': 'total_throughput', 'value': (input_tokens + output_tokens) / since_start},
        {'metric': 'concurrency', 'value': latencies / since_start}])
    FROM spans
    UNION ALL
    SELECT 'aiperf', run_id, unnest([
        {'metric': 'request_throughput', 'value': completed / since_first},
        {'metric': 'output_token_throughput', 'value': output_tokens / since_first},
        {'metric': 'goodput', 'value': limited * good_aiperf / since_first},
        {'metric': 'benchmark_duration', 'value': since_first}])
    FROM spans
    UNION ALL  -- the means of its rate distributions, which it weights by time
    SELECT 'guidellm', run_id, unnest([
        {'metric': 'requests_per_second', 'value': completed / since_start},
        {'metric': 'output_tokens_per_second', 'value': output_tokens / since_start},
        {'metric': 'tokens_per_second', 'value': (input_tokens + output_tokens) / since_start}])
    FROM spans
    UNION ALL  -- failed requests are left out of its goodput_percentage
    SELECT 'inference_perf', run_id, unnest([
        {'metric': 'requests_per_sec', 'value': completed / since_first},
        {'metric': 'input_tokens_per_sec', 'value': input_tokens / since_first},
        {'metric': 'output_tokens_per_sec', 'value': output_tokens / since_first},
        {'metric': 'total_tokens_per_sec', 'value': (input_tokens + output_tokens) / since_first},
        {'metric': 'request_goodput', 'value': limited * good_inference_perf / since_first},
        {'metric': 'goodput_percentage', 'value': limited * 100.0 * good_inference_perf / completed}])
    FROM spans
    UNION ALL
    SELECT 'llmperf', run_id, unnest([
        {'metric': 'mean_output_throughput_token_per_s', 'value': output_tokens / since_first},
        {'metric': 'num_completed_requests_per_min', 'value': 60.0 * completed / since_first}])
    FROM spans
    UNION ALL
    SELECT 'llmperf', run_id, {'metric': 'error_rate', 'value': count(*) FILTER (failed) / count(*)} FROM request_metrics GROUP BY run_id
    UNION ALL  -- over the time until the request that was issued last is done
    SELECT 'loadgen', run_id, unnest([
        {'metric': 'completed_samples_per_second', 'value': (completed - 1) / nullif(finished_of_last_issued, 0)},
        {'metric': 'completed_tokens_per_second', 'value': output_tokens / nullif(finished_of_last_issued, 0)}])
    FROM spans
)
SELECT dialect, run_id, rate.metric AS metric, rate.value AS value FROM rates;

-- All dialects in long form, like run_metrics. stat is NULL for a rate.
CREATE VIEW dialect_metrics AS
SELECT dialect, run_id, metric, stat, value FROM dialect_latencies
UNION ALL
SELECT dialect, run_id, metric, NULL AS stat, value FROM dialect_rates;
