"""recommend: its choice is that of simulating everything, it says what limits the others, and bad words end in one line."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from simulators.native.__main__ import main
from simulators.native.planning.attainment import Attainment
from simulators.native.recommending.assessing import Assessment, assess
from simulators.native.recommending.recommend import Recommendation, demand_of, differing, recommend
from simulators.native.recommending.replicas import fewest_replicas
from simulators.native.recommending.ways import gpus, ways
from tests.simulators.native.recommending.exhaustive import exhaustive, seeded_words

SMALL = ("model=llama_3_1_8b", "hardware=[h100,l40s]", "tensor_parallel=[1,2]", "requests=400", "slo.ttft=0.5", "slo.tpot=0.03")


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_that_of_simulating_every_way_with_every_number_of_replicas(seed: int) -> None:
    """tests/perf/test_recommend.py has twenty such cases."""
    words = seeded_words(seed, requests=300)
    found = recommend(words)
    assert exhaustive(words) == (found.choice and (found.choice.way.number, found.choice.replicas))


class Share:
    """Of good requests, rising with the number of replicas."""

    def __init__(self, least: int, *, best: float = 1.0) -> None:
        self.least, self.best, self.asked = least, best, list[int]()

    def __call__(self, replicas: int) -> Attainment:
        self.asked.append(replicas)
        share = self.best if replicas >= self.least else 0.5 * replicas / self.least
        return Attainment(share=share, error=0.0, load_error=0.0, unseen=0.0, in_flight=3.0 * self.least / replicas, requests=100)


@pytest.mark.parametrize("least", [1, 2, 7, 100, 12_345])
@pytest.mark.parametrize("nearness", [1.0, 0.8, 0.1])
def test_the_fewest_replicas_are_found_in_few_simulations(least: int, nearness: float) -> None:
    share = Share(least)
    found, known = fewest_replicas(share, 0.9, first=max(1, int(nearness * least)))
    assert found == least and known.keys() == {*share.asked}
    assert len(share.asked) == len({*share.asked}) <= 3 + 3 * np.log2(least + 1)


@pytest.mark.parametrize("sketched", [1, 30, 49, 50, 51, 70, 300])
def test_a_sketch_says_where_to_look_and_decides_nothing(sketched: int) -> None:
    share = Share(50)
    found, known = fewest_replicas(share, 0.9, first=20, sketch=Share(sketched))
    assert found == 50 and {49, 50} <= known.keys() and len(share.asked) <= 16
    assert len(Share(50).asked) == 0 and (sketched != 50 or share.asked == [50, 49])
    assert fewest_replicas(Share(5, best=0.8), 0.9, first=1, sketch=Share(5, best=0.8))[0] is None


def test_no_number_of_replicas_does_when_one_request_at_a_time_is_too_many() -> None:
    found, known = fewest_replicas(Share(5, best=0.8), 0.9, first=1)
    assert found is None and known[max(known)].in_flight < 0.02


def test_every_answer_is_whole_and_the_front_is_what_nothing_beats() -> None:
    found = recommend([*SMALL, "rate=30", "requests=200"])
    assert found.told == ("hardware", "tensor_parallel", "effects.weights", "limits.max_num_batched_tokens", "limits.max_num_seqs")
    assert [a.way.number for a in found.assessed] == sorted(a.way.number for a in found.assessed) and len(found.assessed) == 32
    for a in found.served:
        assert a.devices == a.replicas * a.devices_each and a.attainment and a.attainment.share >= 0.9  # type: ignore[operator]
        assert a.limit in {"memory", "queue", "compute", "bandwidth", "links", "host"}
        assert a.at_least and a.at_least <= a.replicas <= max(a.tried)  # type: ignore[operator]
    assert found.choice and found.choice.devices == min(a.devices for a in found.served if a.devices)
    points = [(a.tokens_per_device, a.tokens_per_user) for a in found.served]
    on_front = {a.way.number for a in found.front}
    for a in found.served:
        mine = (a.tokens_per_device, a.tokens_per_user)
        beaten = any(x >= mine[0] and y >= mine[1] and (x, y) != mine for x, y in points)  # type: ignore[operator]
        assert (a.way.number in on_front) is not beaten


def one(*words: str) -> Assessment:
    (way,) = ways([*words, "effects.weights=null", "limits.max_num_batched_tokens=2048"])
    return assess(way, demand_of(way))


BASE = ("model=llama_3_1_70b", "rate=2", "requests=400", "limits.max_num_seqs=256")


def test_what_limits_a_way_is_what_more_of_would_help() -> None:
    too_big = one(*BASE, "hardware=l40s", "tensor_parallel=2")
    assert too_big.limit == "memory" and "do not fit" in str(too_big.why_not) and too_big.replicas is None
    slow = one(*BASE, "hardware=a100", "tensor_parallel=4", "slo.tpot=0.01")
    assert slow.limit == "bandwidth" and "not even alone" in str(slow.why_not)
    assert one("model=llama_3_1_8b", *BASE[1:], "hardware=h100", "tensor_parallel=8").limit == "links"
    small = ("model=llama_3_1_8b", "requests=400", "tensor_parallel=1")
    assert one(*small, "rate=20", "hardware=h100", "limits.max_num_seqs=8").limit == "queue"
    crowded = one(*small, "rate=6", "hardware=l4", "limits.max_num_seqs=256", "slo.ttft=20", "slo.tpot=1")
    assert crowded.limit == "memory" and crowded.replicas


def test_dollars_decide_where_every_price_is_known_and_devices_where_one_is_not() -> None:
    found = recommend([*SMALL, "rate=30", "effects.weights=null", "limits.max_num_seqs=256"])
    assert found.measure == "devices" and found.choice and found.choice.dollars is None

    def priced(prices: dict[str, float | None]) -> Recommendation:
        assessed = tuple(_with_price(a, prices[a.hardware]) for a in found.assessed)
        return Recommendation(assessed=assessed, told=found.told, demand=found.demand)

    cheap = priced({"h100": 9.0, "l40s": 0.5})
    assert cheap.measure == "dollars/h" and cheap.choice and cheap.choice.hardware == "l40s"
    assert cheap.choice.dollars == pytest.approx(0.5 * (cheap.choice.devices or 0))
    half = priced({"h100": 9.0, "l40s": None})
    assert half.measure == "devices" and {a.hardware for a in half.cheapest("dollars/h")} == {"h100"}


def _with_price(given: Assessment, price: float | None) -> Assessment:
    return dataclasses.replace(given, price=price)


def printed(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(["recommend", *words])
    return " ".join(capsys.readouterr().out.split())


def test_it_says_what_to_take_why_others_cannot_and_how_it_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed([*SMALL, "rate=30", "tensor_parallel=[1,16]", "limits.max_num_seqs=256"], capsys)
    assert "30 requests/s with 90% of them within the limits:" in said and "limited by" in said
    assert "vLLM: vllm serve MODEL --tensor-parallel-size 1" in said
    assert "SGLang (its scheduler was not simulated, vLLM's was): python -m sglang.launch_server" in said
    assert "No price is known of" in said and "change the model's answers" in said
    nothing = printed([*SMALL, "rate=30", "slo.tpot=0.0001"], capsys)
    assert "None of 32 ways to serve meets 30 requests/s" in nothing and "not even alone" in nothing


def test_what_costs_far_more_than_the_cheapest_is_not_followed_further(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fewest_replicas(Share(50), 0.9, first=2, most=20)[0] is None and max(fewest_replicas(Share(50), 0.9, first=2, most=20)[1]) == 20
    one_each = ["tensor_parallel=1", "limits.max_num_seqs=256", "effects.weights=null", "requests=400"]
    dear = ["model=llama_3_1_8b", "hardware=[b200,l4]", *one_each]
    monkeypatch.setattr("simulators.native.recommending.recommend.ROUND", 2)
    found = recommend([*dear, "rate=60", "slo.tpot=0.1"])
    assert found.choice and found.choice.hardware == "b200"
    small = [one for one in found.assessed if one.hardware == "l4"]
    assert small and all(one.limit == "cost" and "cost far more" in str(one.why_not) and one.replicas is None for one in small)


def test_a_way_is_told_in_short() -> None:
    words = ["model=llama_3_1_8b", "rate=1", "hardware=[h100,l4]", "tensor_parallel=[1,2]", "enable_expert_parallel=[false,true]"]
    way = next(w for w in ways([*words, "speculation.seed=[1,2]"]) if w.cfg.enable_expert_parallel and w.chosen["effects.weights"] == "fp8")
    assert way.label(tuple(way.chosen)) == "h100, TP 2, EP, seed=1, PP 1, DP 1, fp8, 2048 tokens, 64 sequences, prefix caching"


def test_all_gpus_are_tried_and_a_model_keeps_the_format_that_it_states() -> None:
    every = ways(["model=gpt_oss_20b", "rate=1"])
    assert {way.chosen["hardware"] for way in every} == {*gpus()} and "cpu" not in gpus() and len(gpus()) >= 16
    assert "effects.weights" not in differing(every)
    assert "effects.weights" in differing(ways(["model=llama_3_1_8b", "rate=1"]))


def test_prefill_and_decode_apart_and_speculation_are_ways_to_serve() -> None:
    given = ["model=llama_3_1_8b", "hardware=h100", "tensor_parallel=1", "effects.weights=null", "limits.max_num_batched_tokens=2048"]
    load = ["limits.max_num_seqs=64", "rate=10", "requests=120", "workload=fixed"]
    tried = ways([*given, *load, "arrangement.kind=[replicas,distserve]", "arrangement.instances=[1,2]"])
    made = [(way.cfg.arrangement.kind, way.cfg.arrangement.instances) for way in tried]
    assert made == [("replicas", 1), ("distserve", 1), ("distserve", 2)]
    assessed = [assess(way, demand_of(way)) for way in tried]
    assert [a.devices_each for a in assessed] == [1, None, 2] and "prefill must leave an instance" in str(assessed[1].why_not)
    assert assessed[2].replicas and not assessed[2].why_not
    drafted = one(*given[:3], *load, "speculation.num_speculative_tokens=3", "speculation.acceptance_rate=0.9")
    assert drafted.tokens_per_user and assessed[0].tokens_per_user and drafted.tokens_per_user > 1.5 * assessed[0].tokens_per_user


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=tiny"], "no rate is given"),
        (["model=tiny", "rate=1", "slo.ttft=null", "slo.tpot=null"], "the SLO has no limit"),
        (["model=tiny", "rate=1", "profile=x"], "leave profile out"),
        (["model=tiny", "rate=-1"], "rate must be a number > 0"),
        (["model=no_such", "rate=1"], "model=no_such: unknown"),
        (["model=tiny", "rate=1", f"limits.max_num_seqs=[{','.join(map(str, range(1, 900)))}]"], "combinations, and 20,000 are the most"),
    ],
)
def test_wrong_words_end_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["recommend", *words])
    assert message in str(end.value.code) and "\n" not in str(end.value.code)
