"""Dollars by the token, by hand: of hand.py's run 13 output tokens come inside the window [1, 3], and the prompts of requests 1, 2, 3."""

import dataclasses
from typing import Any

import pytest

from results.summary import costs
from tests.results.conftest import Build
from tests.results.hand import hand_run

OUTPUT, INPUT = 13, 20 + 30 + 7
VIEW = "select devices, cost_per_million_input_tokens, cost_per_million_output_tokens, cost_per_million_tokens from run_cost"


def priced(built: Build, price: object, *, config: dict[str, Any] | None = None, **limits: Any) -> tuple[Any, ...]:
    run = hand_run()
    hardware = {**run.config["hardware"], "price_per_hour": price}
    run = dataclasses.replace(
        run, config={**run.config, "hardware": hardware, **(config or {})}, limits=dataclasses.replace(run.limits, **limits)
    )
    [row] = built(run).execute(VIEW).fetchall()
    return tuple(row)


def test_a_window_s_price_is_shared_by_its_tokens(built: Build) -> None:
    dollars = 3.6 / 3600 * 2  # two seconds of one device
    assert priced(built, 3.6) == pytest.approx((1, 1e6 * dollars / INPUT, 1e6 * dollars / OUTPUT, 1e6 * dollars / (INPUT + OUTPUT)))


def test_every_device_is_paid_for(built: Build) -> None:
    one = priced(built, 3.6)
    eight = priced(built, 3.6, tensor_parallel=2, pipeline_parallel=2, data_parallel=2)
    assert eight == pytest.approx(tuple(8 * value for value in one))
    attention = {"engine": {"details": {"server_info": {"enable_dp_attention": True}}}}
    assert priced(built, 3.6, config=attention, tensor_parallel=4, data_parallel=4)[0] == 4
    arranged = {"simulator": {"settings": {"arrangement": {"instances": 3}}}}
    assert priced(built, 3.6, config=arranged, tensor_parallel=2)[0] == 6


@pytest.mark.parametrize("price", [None, "much", -1.0, 0])
def test_without_a_price_the_cost_is_unknown(built: Build, price: object) -> None:
    assert priced(built, price) == (1, None, None, None)


def test_instances_that_may_share_devices_have_no_known_cost(built: Build) -> None:
    assert priced(built, 3.6, config={"engine": {"prefill": {}, "decode": {}}}) == (None, None, None, None)


def test_a_run_shows_what_is_known_of_it_with_its_unit(built: Build) -> None:
    run = hand_run()
    assert costs(built(run), run.run_id) == {}
    run = dataclasses.replace(run, config={**run.config, "hardware": {"name": "x", "price_per_hour": 3.6}})
    assert costs(built(run), run.run_id) == {
        "cost_per_million_input_tokens (USD)": pytest.approx(2000 / INPUT),
        "cost_per_million_output_tokens (USD)": pytest.approx(2000 / OUTPUT),
    }
