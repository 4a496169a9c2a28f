"""How an identity names the classes in its settings: by their own names, wherever they lie.

The hashes that identify a cell, a task of a campaign or a study, and a simulation's job are made of settings. Hydra's `_target_` in them is
the place of a class in this code, which is no part of what was measured: a class that moves keeps its identity. Neither is a setting that a
class got later, as long as it has the value that makes the class do what it did without it.
"""

import hashlib
import json
from types import MappingProxyType
from typing import Any

TARGET = "_target_"
LATER = MappingProxyType(  # settings that classes got after identities were first made, and the values that change nothing
    {
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "speculative_config": None,
        "pp_size": 1,
        "dp_size": 1,
        "attn_dp_size": 1,
        "ep_size": 1,
        "quantization": None,
        "kv_cache_dtype": None,
        "speculative_algorithm": None,
        "speculative_draft_model_path": None,
        "speculative_num_steps": None,
        "speculative_eagle_topk": None,
        "speculative_num_draft_tokens": None,
        "processes": 1,
        "protocol": {"_target_": "Completions", "prompts": "ids"},
        "headers": None,
        "extra_body": None,
        "ignore_eos": True,
        "adapters": None,
        "adapters_seed": 0,
    }
)


def class_name(target: str) -> str:
    """The class's own name: `harness.engines.vllm.Vllm` is `Vllm`. Public names are unique in this code (tests/test_style.py)."""
    return target.rpartition(".")[2]


def named(settings: Any) -> Any:
    """The same settings, nested mappings and lists included, with the class's own name as each `_target_`, and without idle LATER ones."""
    if isinstance(settings, dict):
        found = {key: _named(key, value) for key, value in settings.items()}
        return {key: value for key, value in found.items() if key not in LATER or value != LATER[key]}
    if isinstance(settings, list | tuple):
        return [named(value) for value in settings]
    return settings


def _named(key: str, value: Any) -> Any:
    return class_name(value) if key == TARGET and isinstance(value, str) else named(value)


def digest(settings: Any) -> str:
    """12 hex digits of these JSON-able settings: the same in whatever order their mappings are, and wherever their classes lie."""
    return hashlib.sha256(json.dumps(named(settings), sort_keys=True).encode()).hexdigest()[:12]
