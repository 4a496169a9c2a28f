"""The ways to serve that are tried: every combination of the settings that the command line or conf/recommend.yaml has as lists."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig

from results.project.folder import CONF
from results.project.malformed import malformed
from simulators.native.latency.efficiency import architecture_of
from simulators.native.planning import settings

TRIED = CONF / "recommend.yaml"
MOST_WAYS = 20_000
SHORT = {  # settings as people say them
    "hardware": "{}",
    "tensor_parallel": "TP {}",
    "pipeline_parallel_size": "PP {}",
    "data_parallel_size": "DP {}",
    "effects.weights": "{}",
    "effects.kv": "KV {}",
    "limits.max_num_batched_tokens": "{} tokens",
    "limits.max_num_seqs": "{} sequences",
    "arrangement.kind": "{}",
}
SWITCHES = {"enable_expert_parallel": "EP", "limits.prefix_caching": "prefix caching"}
AS_THE_MODEL = "effects.weights"  # a model that states its weights' format keeps it, unless the command line names another


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One combination of settings."""

    number: int  # its place in the grid
    chosen: dict[str, str]  # those of its settings that are lists, as words
    cfg: DictConfig  # all of its settings, not looked at yet

    def label(self, told: Sequence[str]) -> str:
        """Its settings of these names, in short: `h100, TP 2, fp8, 2048 tokens, 256 sequences`."""
        return ", ".join(short for name in told if name in self.chosen and (short := _short(name, self.chosen[name])))


def ways(words: Sequence[str]) -> list[Way]:
    """All of them. Raises ValueError, in one line, for words that are wrong, and for more than MOST_WAYS."""
    named = {word.partition("=")[0] for word in words}
    model = next((word.partition("=")[2] for word in words if word.startswith("model=")), None)
    lists = {name: values for name, values in _tried().items() if name not in named}
    if AS_THE_MODEL in lists and model and "quantization_config" in settings.model(model):
        del lists[AS_THE_MODEL]
    given = [*words, *(f"{name}=[{','.join(_word(value) for value in values)}]" for name, values in lists.items())]
    number = 1
    for word in given:
        number *= word.count(",") + 1 if word.partition("=")[2].startswith("[") else 1
    if number > MOST_WAYS:
        raise ValueError(f"recommend: these lists have {number:,} combinations, and {MOST_WAYS:,} are the most; give shorter ones")
    swept = (Way(number=i, chosen=chosen, cfg=cfg) for i, (chosen, cfg) in enumerate(settings.swept(given)))
    first = next(swept)
    if first.cfg.rate is None:
        raise ValueError("recommend: no rate is given; say how many requests/s there are, e.g. rate=20")
    if first.cfg.profile is not None:
        raise ValueError("recommend: a profile is of one engine on one machine; leave profile out, or ask capacity")
    return [way for way in (first, *swept) if not _said_twice(way)]


def _short(name: str, value: str) -> str:
    if name in SWITCHES:
        return SWITCHES[name] if value == "true" else ""
    if name in SHORT:
        return "" if value == "null" else SHORT[name].format(value)
    return f"{name.rpartition('.')[2]}={value}"


def gpus() -> list[str]:
    """The devices of conf/hardware whose architecture is known, which a CPU's is not."""
    return [name for name in settings.choices("hardware") if architecture_of(settings.choice("hardware", name)) is not None]


def _tried() -> dict[str, list[Any]]:
    try:
        with TRIED.open(encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(malformed(error)) from error
    if not isinstance(found, dict) or not all(values is None or (isinstance(values, list) and values) for values in found.values()):
        raise ValueError("conf/recommend.yaml: it must hold a list for each setting, as SETTING: [VALUE, ...]")
    if found.get("hardware", ()) is None:
        found["hardware"] = gpus()
    return {name: values for name, values in found.items() if values is not None}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _said_twice(way: Way) -> bool:
    """Whether another way says the same: replicas are found, not given, and one device cannot spread experts."""
    arrangement = way.cfg.arrangement
    if arrangement.kind == "replicas" and "arrangement.instances" in way.chosen and arrangement.instances != 1:
        return True
    together = way.cfg.enable_expert_parallel and way.cfg.tensor_parallel == way.cfg.data_parallel_size == 1
    return bool(together and "enable_expert_parallel" in way.chosen)
