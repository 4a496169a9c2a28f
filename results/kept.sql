-- In a database on disk the metrics of all runs are kept (the table run_values), so the views of metrics.sql that compute them are
-- answered from there. Same names, same columns, same values.

CREATE OR REPLACE VIEW run_latencies AS SELECT run_id, metric, stat, value FROM run_values WHERE stat IS NOT NULL;

CREATE OR REPLACE VIEW run_rates AS
SELECT
    run_id,
    any_value(value) FILTER (metric = 'output_throughput') AS output_throughput,
    any_value(value) FILTER (metric = 'total_throughput') AS total_throughput,
    any_value(value) FILTER (metric = 'request_rate') AS request_rate,
    any_value(value) FILTER (metric = 'offered_rate') AS offered_rate,
    any_value(value) FILTER (metric = 'goodput') AS goodput,
    any_value(value) FILTER (metric = 'slo_attainment') AS slo_attainment,
    any_value(value) FILTER (metric = 'error_rate') AS error_rate,
    any_value(value) FILTER (metric = 'cached_fraction') AS cached_fraction,
    any_value(value) FILTER (metric = 'fluidity') AS fluidity,
    any_value(value) FILTER (metric = 'duration') AS duration
FROM run_values
WHERE stat IS NULL
GROUP BY run_id;

CREATE OR REPLACE VIEW run_metrics AS SELECT run_id, metric, stat, value FROM run_values;
