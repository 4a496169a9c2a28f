"""How an identity names the classes in its settings: by their own names, wherever they lie.

The hashes that identify a cell, a task of a campaign or a study, and a simulation's job are made of settings. Hydra's `_target_` in them is
the place of a class in this code, which is no part of what was measured: a class that moves keeps its identity.
"""

import hashlib
import json
from typing import Any

TARGET = "_target_"


def class_name(target: str) -> str:
    """The class's own name: `harness.engines.vllm.Vllm` is `Vllm`. Public names are unique in this code (tests/test_style.py)."""
    return target.rpartition(".")[2]


def named(settings: Any) -> Any:
    """The same settings, nested mappings and lists included, with the class's own name as each `_target_`."""
    if isinstance(settings, dict):
        return {key: class_name(value) if key == TARGET and isinstance(value, str) else named(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [named(value) for value in settings]
    return settings


def digest(settings: Any) -> str:
    """12 hex digits of these JSON-able settings: the same in whatever order their mappings are, and wherever their classes lie."""
    return hashlib.sha256(json.dumps(named(settings), sort_keys=True).encode()).hexdigest()[:12]
