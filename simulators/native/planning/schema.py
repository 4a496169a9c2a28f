"""The settings of conf/native.yaml: the kind, range and unit of each. `wrong` holds values against it.

The YAML says what a setting means and has its default; names (of a policy, a format, a router) are checked by those who know them.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """The range of a number: `low` itself belongs to it where `open_low` is false, and so with `high`. unit: of the number, for people."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    unit: str = ""

    def __contains__(self, number: float) -> bool:
        return (self.low < number if self.open_low else self.low <= number) and (
            number < self.high if self.open_high else number <= self.high
        )

    def __str__(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        if math.isinf(self.high):
            return f" {'>' if self.open_low else '>='} {self.low:g}{unit}"
        return f" in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}{unit}"


@dataclass(frozen=True, slots=True)
class Text:
    """is_a: what a text stands for."""

    is_a: str


File = Annotated[str, Text("a path")]
Name = Annotated[str, Text("a name")]
Tokens = Annotated[int, Within(low=1, unit="tokens")]
Count = Annotated[int, Within(low=1)]
Seed = Annotated[int, Within(low=0)]
Seconds = Annotated[float, Within(low=0, open_low=True, unit="s")]
Share = Annotated[float, Within(low=0, high=1, unit="a share")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """`limits`: instead of what the model and the device give. None: as these give it."""

    kv_blocks: Count | None
    max_num_seqs: Count | None
    max_num_batched_tokens: Tokens | None
    in_flight: Count | None
    prefix_caching: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationSettings:
    """`speculation`: fields of Speculation."""

    num_speculative_tokens: Annotated[int, Within(low=0, unit="tokens")]  # drafts that a decode verifies
    method: Name  # the drafter
    acceptance_rate: Share | None  # chance that a draft is accepted when all before it are
    draft_step: Annotated[float, Within(low=0, unit="s")]  # of the drafter for one position
    speculative_eagle_topk: Count  # of SGLang: branches of the drafter's tree
    speculative_num_draft_tokens: Count | None  # of SGLang: tokens that a decode verifies
    seed: Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSettings:
    """`effects`: fields of Effects."""

    weights: Name | None  # format of the weights
    kv: Name | None  # format of the KV cache
    attention: Name | None  # generation of attention kernels
    window: Tokens | None  # tokens of the latest context that are kept
    sinks: Annotated[int, Within(low=0, unit="tokens")]  # tokens of its beginning that are kept beside a window
    heavy_hitters: Tokens | None  # tokens of context that are kept
    fetched: Share | None  # share of the context in host memory that a decode step fetches
    weights_on_host: Share  # share of the weights in host memory
    kv_on_host: Annotated[float, Within(low=0, high=1, open_high=True, unit="a share")]  # share of the KV cache in host memory
    overlap: bool  # whether copies and computing overlap
    recomputed: Share | None  # share of known chunks of a prompt that is computed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrangementSettings:
    """`arrangement`: fields of Arrangement."""

    kind: Name
    instances: Count
    prefill: Count
    router: Name
    link_gb_s: Annotated[float, Within(low=0, open_low=True, unit="GB/s")] | None
    link_latency: Annotated[float, Within(low=0, unit="s")]
    seed: Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class SloSettings:
    """`slo`: limits of a good request. None: no limit."""

    ttft: Seconds | None
    tpot: Seconds | None
    e2e: Seconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySettings:
    """`day`: how the rate goes over a day."""

    profile: Name
    peak: Annotated[float, Within(low=0, open_low=True, unit="requests/s")] | None
    seconds: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondSettings:
    """`second`: a second class of requests."""

    share: Annotated[float, Within(low=0, high=1, open_high=True, unit="a share")]
    by_priority: bool
    slo: SloSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleSettings:
    """`autoscale`: how replicas are started and stopped."""

    rule: Name  # how many there should be
    target: Annotated[float, Within(low=0, open_low=True, unit="requests")] | None  # in flight of a replica
    utilisation: Annotated[
        float, Within(low=0, high=1, open_low=True, unit="a share")
    ]  # of what a replica sustains, where there is no target
    tolerance: Annotated[float, Within(low=0, high=1, open_high=True, unit="a share")]  # of the target, that is no reason to scale
    stabilisation: Annotated[float, Within(low=0, unit="s")]  # for which fewer must have been wanted
    interval: Seconds  # between two looks
    start_up: Annotated[float, Within(low=0, unit="s")]  # from a replica's start until it serves
    min_replicas: Count  # at any time
    max_replicas: Count | None  # None: no bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of conf/native.yaml, which says what each means."""

    trace: File | None  # a file of requests
    workload: Name  # of conf/workload, without a trace
    rate: Annotated[float, Within(low=0, open_low=True, unit="requests/s")] | None  # offered
    requests: Count | None  # the first so many; None: all
    seed: Seed  # of the workload
    model: Name  # of conf/model, or the path of a config.json
    hardware: Name  # of conf/hardware
    tensor_parallel: Count  # devices that split each matrix
    pipeline_parallel_size: Count  # stages of layers of an engine
    data_parallel_size: Count  # replicas behind one server
    enable_expert_parallel: bool  # whether experts are spread over the devices whole
    policy: Name  # a scheduler
    max_model_len: Tokens | None  # None: the trace's longest request
    token_times: bool  # whether records have them
    profile: File | None  # a folder with an engine's step times
    limits: LimitSettings  # of the engine, where they are not the default
    speculation: SpeculationSettings  # draft tokens
    effects: EffectSettings  # of what changes the model or its KV cache
    arrangement: ArrangementSettings  # of several engines
    slo: SloSettings  # of a good request
    day: DaySettings  # of `plan day`: its rate
    second: SecondSettings  # a second class of its requests
    autoscale: AutoscaleSettings  # its replicas
    attainment: Annotated[float, Within(low=0, high=1, open_low=True, unit="a share")]  # share of requests that must meet the SLO
    precision: Annotated[float, Within(low=0, high=1, open_low=True, unit="a share")]  # of a capacity: its interval to either side
    out: File | None  # folder to keep the run or the page in


NUMBERS = {int: "a whole number", float: "a number"}


def wrong(values: Mapping[str, Any], schema: type = Settings, prefix: str = "") -> str | None:
    """A line about the first value that is not of its kind or range; None when all are. values: plain ones, as YAML has them.

    A value that is still `???` is passed over.
    """
    kinds = typing.get_type_hints(schema, include_extras=True)
    for name in [*kinds, *(name for name in values if name not in kinds)]:
        key = f"{prefix}{name}"
        if name not in kinds:
            return f"{key} has no kind in simulators/native/planning/schema.py; give it one, or take it out of conf/native.yaml"
        if name not in values:
            return f"{key} is missing in conf/native.yaml; put it back"
        value, kind = values[name], kinds[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                return f"{key} is a group of settings, got {value!r}; give one of them, e.g. {key}.{dataclasses.fields(kind)[0].name}=..."
            line = wrong(value, typing.cast(type, kind), f"{key}.")
        else:
            line = None if value == "???" else _wrong_value(key, value, kind)
        if line is not None:
            return line
    return None


def _wrong_value(key: str, value: Any, kind: Any) -> str | None:
    optional = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    if optional and value is None:
        return None
    inner = typing.get_args(kind)[0] if optional else kind
    plain, what = typing.get_args(inner) if typing.get_origin(inner) is Annotated else (inner, None)
    if _fits(value, plain, what):
        return None
    wanted = what.is_a if isinstance(what, Text) else f"{NUMBERS[plain]}{what}" if what is not None else "true or false"
    why = "; lists are for compare" if isinstance(value, list) else ""
    return f"{key} must be {wanted}{', or null' if optional else ''}, got {_shown(value)}{why}"


def _fits(value: Any, plain: type, what: Within | Text | None) -> bool:
    if what is None:
        return isinstance(value, bool)
    if isinstance(what, Text):
        return isinstance(value, str) and value != ""
    number = isinstance(value, int if plain is int else int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value in what


def _shown(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)
