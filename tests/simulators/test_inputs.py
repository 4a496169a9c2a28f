"""What a run lacks for a track makes the track not available; what is wrong with the run is an error."""

import numpy as np
import pytest

from results.record import EngineLimits
from simulators.errors import NotAvailable, SimulatorError
from simulators.inputs import known_limits, kv_shape, needed_profile, one_engine, tokens_per_request, transfer_rate
from tests.simulators.foreign.copies import linked
from tests.simulators.profiles import Law, make_measured, make_profile, with_limits

RUN = make_measured([(0.5, 100, 10)])


def test_the_engines_limits_or_the_names_of_those_that_it_did_not_say() -> None:
    assert known_limits("x", RUN, ("kv_tokens", "max_num_seqs")) == [65536, 64]
    silent = make_measured([(0.5, 100, 10)], limits=EngineLimits(max_num_seqs=8))
    with pytest.raises(NotAvailable, match="x: run vllm-law-0 does not say the engine's kv_tokens, block_size"):
        known_limits("x", silent, ("kv_tokens", "max_num_seqs", "block_size"))


def test_no_profile_no_calibrated_track() -> None:
    profile = make_profile(Law())
    assert needed_profile("x", RUN, profile) is profile
    with pytest.raises(NotAvailable, match="x: the calibrated track of run vllm-law-0 needs a profile"):
        needed_profile("x", RUN, None)


def test_a_kv_cache_moves_in_one_direction_over_the_links_of_all_its_devices() -> None:
    assert transfer_rate("x", linked(RUN, 900.0)) == 450e9
    assert transfer_rate("x", linked(make_measured([(0.5, 9, 9)], limits=with_limits(tensor_parallel=4)), 900.0)) == 1800e9
    with pytest.raises(NotAvailable, match="x: topology=pd needs the link between devices; set interconnect_gb_s in conf/hardware"):
        transfer_rate("x", RUN)


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(SimulatorError, match="x: the size of the KV cache needs int3"):
        kv_shape("x", {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 128, "torch_dtype": "int3"})


def test_tokens_are_sorted_to_their_requests() -> None:
    places, times = np.array([2, 0, 2, 0]), np.array([5.0, 2.0, 4.0, 1.0])
    assert tokens_per_request(places, times, 4) == [[1.0, 2.0], [], [4.0, 5.0], []]


@pytest.mark.parametrize(
    ("limits", "says"),
    [(with_limits(data_parallel=2), "2 data-parallel replicas"), (with_limits(pipeline_parallel=4), "4 pipeline stages")],
)
def test_the_load_of_several_engines_is_not_put_on_one(limits: EngineLimits, says: str) -> None:
    one_engine("x", RUN)
    with pytest.raises(NotAvailable, match=f"x: run vllm-law-0 is of an engine with {says}, and it is set up for one"):
        one_engine("x", make_measured([(0.5, 9, 9)], limits=limits))
