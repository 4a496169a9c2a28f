"""Step times out of token times, however the tokens come through."""

import numpy as np
import pytest

from harness.probing.token_gaps import Times, blocks, handover, mixed_step, period, stairs, together, usual_gap
from results.record import RequestRecord

STEP = 0.02


def steps(n: int) -> Times:
    """Ends of n steps."""
    return np.linspace(0, STEP * (n - 1), n)


def record(times: Times) -> RequestRecord:
    return RequestRecord(request_id=0, arrival=0.0, token_times=tuple(float(t) for t in times))


def bunched(times: Times, size: int) -> Times:
    """Tokens handed over `size` at a time, all at the time of the last of them."""
    last = np.minimum((np.arange(len(times)) // size + 1) * size - 1, len(times) - 1)
    return np.asarray(times[last] + 1e-6 * np.arange(len(times)))


def test_a_constant_delay_does_not_move_the_period() -> None:
    assert period([np.add(steps(20), 0.5), np.add(steps(20), 3.0)]) == pytest.approx(STEP)


def test_the_period_stands_up_to_late_tokens() -> None:
    rng = np.random.default_rng(1)
    late = steps(40) + np.where(rng.random(40) < 0.2, rng.exponential(0.2, 40), 0)
    assert period([np.maximum.accumulate(late)]) == pytest.approx(STEP, rel=0.05)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_period_stands_up_to_tokens_handed_over_together(size: int) -> None:
    assert period([bunched(steps(30), size)]) == pytest.approx(STEP, rel=0.02)


def test_the_usual_gap_is_that_of_most_tokens_or_the_mean_where_most_come_at_once() -> None:
    gaps = np.full(20, STEP)
    gaps[7] = 1.0  # a prompt in between
    assert usual_gap([np.cumsum(gaps), np.cumsum(gaps)]) == pytest.approx(STEP)
    assert usual_gap([np.repeat(steps(8), 3)]) == pytest.approx(STEP * 7 / 23)
    assert usual_gap([np.zeros(5)]) == 0


def test_tokens_that_all_come_at_once_say_nothing() -> None:
    assert period([np.zeros(20)]) is None


def test_two_tokens_say_nothing() -> None:
    assert period([np.array([0.0, 1.0])]) is None


def test_together_is_from_the_last_first_token_to_the_first_finish() -> None:
    early, late = record(steps(20)), record(np.add(steps(20), 0.1))
    for times in together([early, late]):
        assert times[0] >= 0.1 - 1e-9 and times[-1] <= 19 * STEP + 1e-9 and len(times) == 15


def staircase() -> list[RequestRecord]:
    """Three sequences, then two, then one: 10 steps each, of 0.03, 0.02 and 0.01 s."""
    ends = np.concatenate([[0], np.cumsum(np.repeat([0.03, 0.02, 0.01], 10))])
    return [record(ends[: n + 1] + 0.0005 * i) for i, n in enumerate((30, 20, 10))]


@pytest.mark.parametrize(("batch", "seconds"), [(3, 0.03), (2, 0.02), (1, 0.01)])
def test_a_batch_that_steps_down_tells_the_step_of_each_size(batch: int, seconds: float) -> None:
    stretch = stairs(staircase(), batch)
    assert len(stretch) == batch and min(len(t) for t in stretch) >= 9
    assert blocks(stretch) == pytest.approx([seconds] * len(blocks(stretch)))


def test_no_stretch_where_a_larger_batch_ends_last() -> None:
    assert stairs([record(steps(5)), record(steps(20))], 1) == []


def test_blocks_tell_a_burst_of_noise_from_the_rest() -> None:
    gaps = np.full(15, STEP)
    gaps[:5] = 5 * STEP
    assert blocks([np.cumsum(np.append(0, gaps))]) == pytest.approx([5 * STEP, STEP, STEP])


def test_handover_is_the_lag_per_sequence_whole_steps_taken_off() -> None:
    stretch = [np.add(steps(20), 0.001 * i + (STEP if i == 2 else 0)) for i in range(5)]
    assert handover(stretch, STEP) == pytest.approx(0.001)


@pytest.mark.parametrize("size", [1, 3])
def test_a_mixed_step_is_how_far_it_displaces_the_decoders(size: int) -> None:
    gaps = np.full(60, STEP)
    gaps[20], gaps[40] = 0.1, 3.0
    ends = np.cumsum(gaps)
    decoders = [bunched(ends + delay, size) for delay in (0.0, 0.002, 0.004)]
    assert mixed_step(decoders, [ends[20], ends[40]], 0) == pytest.approx(0.1, rel=0.05)
    assert mixed_step(decoders, [ends[20], ends[40]], 1) == pytest.approx(3.0, rel=0.05)


def test_a_mixed_step_needs_plain_steps_beside_it() -> None:
    assert mixed_step([np.array([0.0, 0.1])], [0.1], 0) is None
