"""The window of a closed loop, from records whose transients are known."""

import numpy as np
import pytest

from harness.probing.steady_state import LEAST, mean_in_flight, steady_window, truncation
from results.record import RequestRecord

SLOTS = 4


def records_of(ttft: list[float], *, e2e: float = 1.0) -> list[RequestRecord]:
    """A closed loop of SLOTS whose requests all last equally long, with these times to the first token."""
    made = []
    for i, first in enumerate(ttft):
        arrival = e2e * (i // SLOTS) + 0.01 * (i % SLOTS)
        made.append(
            RequestRecord(
                request_id=i, arrival=arrival, sent=arrival, first_token=arrival + first, finished=arrival + e2e, output_tokens=11
            )
        )
    return made


def noisy(count: int, mean: float = 0.1) -> list[float]:
    return [float(x) for x in np.random.default_rng(1).normal(mean, 0.005, count)]


def test_a_transient_at_the_beginning_is_left_out_and_little_more() -> None:
    records = records_of([0.8] * 20 + noisy(180))
    window = steady_window(records, SLOTS)
    assert window is not None
    assert records[20].arrival <= window[0] <= records[60].arrival


def test_a_steady_loop_begins_with_its_last_slot_and_ends_before_the_first_that_stays_empty() -> None:
    records = records_of(noisy(200))
    window = steady_window(records, SLOTS)
    assert window is not None and records[SLOTS - 1].arrival <= window[0] <= records[100].arrival
    over = records[-1].arrival  # no slot takes another after that
    inside = [r for r in records if r.arrival <= window[1]]
    assert all(r.finished is not None and r.finished <= over for r in inside)
    assert records[len(inside)].finished is not None and records[len(inside)].finished > over  # type: ignore[operator]


def test_latencies_that_go_on_rising_have_no_steady_state() -> None:
    assert steady_window(records_of([0.001 * i for i in range(200)], e2e=3.0), SLOTS) is None


@pytest.mark.parametrize("count", [1, SLOTS, LEAST])
def test_few_requests_tell_of_no_steady_state(count: int) -> None:
    assert steady_window(records_of(noisy(count)), SLOTS) is None


def test_the_truncation_has_the_least_standard_error_of_what_is_left() -> None:
    rng = np.random.default_rng(3)
    series = np.concatenate([np.linspace(5, 0, 50), np.zeros(150)]) + rng.normal(0, 0.1, 200)
    assert 40 <= (truncation(series) or 0) <= 60
    assert truncation(series[:15]) is None


def test_the_mean_in_flight_is_weighted_by_time() -> None:
    records = records_of([0.1, 0.1])  # from 0 and 0.01 s, 1 s each
    assert mean_in_flight(records, [1.0, 1.01], (0.0, 2.0)) == pytest.approx(1.0)
    assert mean_in_flight(records, [1.0, None], (0.0, 2.0)) == pytest.approx((1.0 + 1.99) / 2)
    assert mean_in_flight(records, [1.0, 1.01], (1.0, 1.0)) is None
