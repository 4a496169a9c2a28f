"""What a model's sizes and its devices do, in the matched track on an H100: bounds that follow from bytes and the memory's bandwidth.

A lone decode step reads the weights of a token from memory, so it takes no less than their bytes over the bandwidth.
"""

import dataclasses
from typing import Any

from simulators.conformance.answer import Answered, Bounded, ratio
from simulators.conformance.case import Case
from simulators.conformance.scene import ON_H100, Scene

BANDWIDTH = 3.35e12  # bytes/s, conf/hardware/h100.yaml
LONE = ((0.5, 128, 40),)
LONG = ((0.5, 3500, 60),) * 24
DENSE = "llama_3_1_8b"
MIXTURE = "qwen3_30b_a3b"
ACTIVE, WHOLE = 3.3e9 * 2, 30.5e9 * 2  # bytes of its weights that a token passes, and of all (its model card)
FP8: dict[str, Any] = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
LATENT = "deepseek_v2_lite"
LATENT_BYTES = 27 * (512 + 64) * 2  # of a token in its KV cache: layers, one latent vector and one rotated key
PROMPTS = ((0.5, 4000, 2),) * 16
TWO = dataclasses.replace(ON_H100, tensor_parallel=2)

DENSE_LONE = Scene(requests=LONE, limits=ON_H100, model=DENSE)
DENSE_TWO = Scene(requests=LONE, limits=TWO, model=DENSE)
DENSE_PROMPTS = Scene(requests=PROMPTS, limits=ON_H100, model=DENSE)
DENSE_STAGES = Scene(requests=PROMPTS, limits=dataclasses.replace(ON_H100, pipeline_parallel=2), model=DENSE)
DENSE_FP8 = Scene(requests=LONE, limits=ON_H100, model=DENSE, changed=FP8)
DENSE_LONG = Scene(requests=LONG, limits=ON_H100, model=DENSE)
MANY_HEADS = Scene(requests=LONG, limits=ON_H100, model=DENSE, changed={"num_key_value_heads": 32})
MIXTURE_LONE = Scene(requests=LONE, limits=ON_H100, model=MIXTURE)
MIXTURE_MANY = Scene(requests=LONE * 32, limits=ON_H100, model=MIXTURE)
WINDOWED = Scene(requests=LONG, limits=ON_H100, model="mistral_7b", changed={"sliding_window": 128})
UNWINDOWED = Scene(requests=LONG, limits=ON_H100, model="mistral_7b", changed={"sliding_window": None})
LATENT_SHORT = Scene(requests=((0.5, 16, 60),) * 24, limits=ON_H100, model=LATENT)
LATENT_LONG = Scene(requests=LONG, limits=ON_H100, model=LATENT)


def slower(one: Answered, other: Answered) -> float:
    """The TPOT of the last request of one scene over that of the other."""
    return one.tpot(len(one.places) - 1) / other.tpot(len(other.places) - 1)


def last_prompt(answer: Answered) -> float:
    """The TTFT of the prompt that was computed last."""
    return max(answer.ttft(place) for place in answer.places)


def latent_bytes(short: Answered, long: Answered) -> Bounded:
    """Bytes that a step's growth with context would read of a cached token, over what the latent cache holds of one; without it: 9."""
    grown = long.tpot(23) - short.tpot(23)
    return ratio(grown * BANDWIDTH / (24 * 3484) / LATENT_BYTES, 0.5, 5.0)


CASES = (
    Case(
        name="two_devices",
        row="tensor_parallel",
        shows="On two devices a lone decode step of an 8B model takes 0.45 to 0.85 of its time on one.",
        scenes=(DENSE_TWO, DENSE_LONE),
        measure=lambda two, one: ratio(slower(two, one), 0.45, 0.85),
    ),
    Case(
        name="two_stages",
        row="pipeline_parallel",
        shows="Two stages of layers work through 16 long prompts in 0.45 to 0.8 of the time of one device.",
        scenes=(DENSE_STAGES, DENSE_PROMPTS),
        measure=lambda two, one: ratio(last_prompt(two) / last_prompt(one), 0.45, 0.8),
    ),
    Case(
        name="kv_heads",
        row="gqa",
        shows="With 32 KV heads in the place of 8, 24 long contexts decode slower.",
        scenes=(MANY_HEADS, DENSE_LONG),
        measure=lambda many, few: ratio(slower(many, few), 1.3, 4.0),
    ),
    Case(
        name="active_experts",
        row="experts",
        shows="A lone token of a mixture reads more than the weights that it passes, and far less than all.",
        scenes=(MIXTURE_LONE,),
        measure=lambda a: Bounded(value=a.tpot(0), low=ACTIVE / BANDWIDTH, high=0.6 * WHOLE / BANDWIDTH),
    ),
    Case(
        name="more_experts",
        row="experts",
        shows="32 tokens touch more experts than one.",
        scenes=(MIXTURE_MANY, MIXTURE_LONE),
        measure=lambda many, one: ratio(slower(many, one), 1.5, 10.0),
    ),
    Case(
        name="half_the_bytes",
        row="quantisation",
        shows="In FP8 a lone decode step of an 8B model takes 0.45 to 0.85 of its time in BF16.",
        scenes=(DENSE_FP8, DENSE_LONE),
        measure=lambda narrow, wide: ratio(slower(narrow, wide), 0.45, 0.85),
    ),
    Case(
        name="window",
        row="windows",
        shows="With a window of 128 tokens, 24 long contexts decode faster.",
        scenes=(WINDOWED, UNWINDOWED),
        measure=lambda few, all_: ratio(slower(few, all_), 0.3, 0.85),
    ),
    Case(
        name="latent_cache",
        row="latent_attention",
        shows="A decode step grows with context by what the latent cache holds, not by whole keys and values.",
        scenes=(LATENT_SHORT, LATENT_LONG),
        measure=latent_bytes,
    ),
)
