"""Per-step batches from the logs of SGLang 0.5.23 and vLLM 0.32.0: their lines, word for word."""

import calendar
import time

import pytest

from harness.engines import step_log

DECODE = "Decode batch, #running-req: {}, #token: {}, token usage: 0.45, cpu graph: False, gen throughput (token/s): 25.65, #queue-req: {}"
PREFILL = (
    "Prefill batch, #new-seq: 2, #new-token: 300, #cached-token: 64, token usage: 0.01, #running-req: 1, #queue-req: 3, "
    "#pending-token: 0, cpu graph: False, input throughput (token/s): 107.61"
)
LOG = f"""\
[2026-11-21 12:34:53] INFO:     127.0.0.1:36452 - "POST /generate HTTP/1.1" 200 OK
[2026-11-21 12:34:54.064] {DECODE.format(9, 0, 0)}
[2026-11-21 12:34:55.250] {PREFILL}
[2026-11-21 12:34:55.300] {DECODE.format(3, 3706, 4)}
a line that quotes: {DECODE.format(7, 1, 0)}
"""
SECOND_0 = calendar.timegm((2026, 11, 21, 12, 34, 55))


def test_every_number_of_a_step_at_its_time() -> None:
    frame = step_log.sglang_steps(LOG, SECOND_0)
    seen = [(round(time, 3), name, value) for time, name, value in frame.itertuples(index=False)]
    assert seen == [
        (0.25, "step_prefill_sequences", 2),
        (0.25, "step_prefill_new_tokens", 300),
        (0.25, "step_prefill_cached_tokens", 64),
        (0.25, "step_prefill_running", 1),
        (0.25, "step_prefill_queue", 3),
        (0.3, "step_decode_batch", 3),
        (0.3, "step_decode_kv_tokens", 3706),
        (0.3, "step_decode_queue", 4),
    ]


def test_steps_before_the_trace_are_left_out() -> None:
    assert len(step_log.sglang_steps(LOG, SECOND_0 - 10)) == 11
    assert len(step_log.sglang_steps(LOG, SECOND_0 + 1)) == 0


def test_lines_of_several_devices_count_once() -> None:
    tagged = LOG.replace("] Decode", " TP0] Decode").replace("] Prefill", " TP0] Prefill")
    assert step_log.sglang_steps(tagged, SECOND_0).equals(step_log.sglang_steps(LOG, SECOND_0))


@pytest.mark.parametrize("log", ["", "no steps here\n", LOG.splitlines()[0]])
def test_a_log_without_steps_gives_the_same_columns(log: str) -> None:
    frame = step_log.sglang_steps(log, SECOND_0)
    assert list(frame.columns) == ["time", "name", "value"] and len(frame) == 0
    assert str(frame.dtypes["time"]) == "float64"


def test_the_clocks_agree() -> None:
    assert step_log.wall_clock(time.monotonic()) == pytest.approx(time.time(), abs=0.5)


ITERATION = "(APIServer pid=7) INFO 11-21 12:34:55 [loggers.py:199] Engine 000: Iteration({}): {} context requests, {} context tokens, {} "
ITERATION += "generation requests, {} generation tokens, iteration elapsed time: {} ms{}, CPU KV cache usage: 2.5%"
VLLM_LOG = f"""\
{SECOND_0 - 1}.500000 {ITERATION.format(0, 1, 8, 0, 0, "9.00", "")}
{SECOND_0}.250000 {ITERATION.format(1, 2, 300, 3, 3, "21.50", "")}
{SECOND_0}.300001 {ITERATION.format(2, 0, 0, 5, 5, "8.25", "")}
{SECOND_0}.400000 {ITERATION.format(3, 0, 0, 0, 0, "8.25", " (dummy)")}
"""


def test_a_mixed_step_of_vllm_has_both_parts_at_one_time() -> None:
    frame = step_log.vllm_steps(VLLM_LOG, SECOND_0)
    seen = [(round(time, 6), name, round(value, 6)) for time, name, value in frame.itertuples(index=False)]
    assert seen == [
        (0.25, "step_prefill_sequences", 2),
        (0.25, "step_prefill_new_tokens", 300),
        (0.25, "step_decode_batch", 3),
        (0.25, "step_kv_usage", 0.025),
        (0.300001, "step_decode_batch", 5),
        (0.300001, "step_kv_usage", 0.025),
    ]
