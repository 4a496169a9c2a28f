"""The profiles that a clone of Frontier ships: which one is of a run's model and GPU, and whether it is whole.

A profile is a folder data/profiling/compute/DEVICE/MODEL with linear_op.csv, attention.csv and, of a mixture of experts, moe.csv. Many are
not: some lack a file or columns that Frontier asks for, some know no steps of prompts and decodes together, some end at a hundred tokens.
Its forests are flat beyond their tables, so what a run needs and a table lacks is refused here, by name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from simulators.errors import NotAvailable
from simulators.frontier.files import SYSTEM, Times

NETWORKS = {  # the machine that it knows each device in
    "a40": "a40_pairwise_nvlink",
    "a100": "a100_dgx",
    "a800": "a800_dgx",
    "h100": "h100_dgx",
    "h800": "h800_dgx",
    "h200": "h200_dgx",
    "h20": "h20_dgx",
}
ANY_NETWORK = "a100_pairwise_nvlink"  # its default, of a device that it knows no machine of
LABELS = ("profiling_precision", "model_arch", "model_architecture_profile", "quant_signature", "measurement_type")
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
EXPERTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a run asks of a profile: devices, tokens of a KV block, of a step and of the longest request, sequences of a step."""

    tensor_parallel: int
    block_size: int
    step: int
    batch: int
    longest: int


def shipped_times(checkout: Path, model: Mapping[str, Any], devices: Sequence[str], need: Need, *, routing: str) -> Times:
    """The first whole profile of these sizes and of one of these devices (its names). Raises NotAvailable saying what each lacks.

    routing: how it spreads tokens over experts.
    """
    names = [name for name, config in _models(checkout).items() if _alike(config, model)]
    if not names:
        sizes = ", ".join(f"{model.get(size)} {size}" for size in SIZES[:2])
        raise NotAvailable(f"{SYSTEM}: its clone knows no model of these sizes ({sizes}), so it ships no times of it")
    lacking = []
    for name in names:
        for device in devices:
            folder = checkout / "data" / "profiling" / "compute" / device / name
            files = _files(folder, model)
            problem = _problem(files, need)
            if problem is None:
                return Times(
                    files=files,
                    model=name,
                    device=device,
                    network=NETWORKS.get(device, ANY_NETWORK),
                    tensor_parallel=need.tensor_parallel,
                    measured=False,
                    experts=_experts(model, need.tensor_parallel, routing),
                )
            lacking.append(f"{device}/{name}: {problem}")
    raise NotAvailable(f"{SYSTEM}: its clone has no whole profile of this model on {' or '.join(devices)} ({'; '.join(lacking)})")


def _models(checkout: Path) -> dict[str, Mapping[str, Any]]:
    """The models that a clone has sizes of, by name."""
    return {path.stem.replace("__", "/"): json.loads(path.read_text()) for path in sorted((checkout / "data/config/models").glob("*.json"))}


def _alike(config: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether two config.json are of the same sizes, and of as few bits."""
    sizes = [*SIZES, *(EXPERTS if _mixture(model) else ("intermediate_size",))]
    if _mixture(config) != _mixture(model) or _quantised(config) != _quantised(model):
        return False
    return all(config.get(size) == model.get(size) for size in sizes)


def _mixture(config: Mapping[str, Any]) -> bool:
    return int(config.get("num_experts") or 0) > 1


def _quantised(config: Mapping[str, Any]) -> Any:
    return (config.get("quantization_config") or {}).get("quant_method")


def _files(folder: Path, model: Mapping[str, Any]) -> dict[str, Path]:
    """A profile's files, by flag."""
    files = {"linear_op": folder / "linear_op.csv", "atten": folder / "attention.csv"}
    return {**files, "moe": folder / "moe.csv"} if _mixture(model) else files


def _experts(model: Mapping[str, Any], tensor_parallel: int, routing: str) -> dict[str, Any]:
    if not _mixture(model):
        return {}
    values = {
        "total_expert_num": model["num_experts"],
        "router_topk": model["num_experts_per_tok"],
        "moe_tensor_parallel_size": tensor_parallel,
        "moe_expert_parallel_size": 1,
        "moe_routing_mode": routing,
    }
    return {f"replica_config_{name}": value for name, value in values.items()}


def _problem(files: Mapping[str, Path], need: Need) -> str | None:
    """What is wrong with a profile, in a few words; None: it is whole, and reaches as far as it must."""
    if missing := [path.name for path in files.values() if not path.is_file()]:
        return f"no {' and no '.join(missing)}"
    tables = {flag: pd.read_csv(path, low_memory=False) for flag, path in files.items()}
    for flag, table in tables.items():
        if absent := [label for label in LABELS if label not in table]:
            return f"{files[flag].name} lacks its column {', '.join(absent)}"
        if need.tensor_parallel not in set(table["num_tensor_parallel_workers"]):
            return f"{files[flag].name} has no rows of {need.tensor_parallel} devices"
    return _attention_problem(tables["atten"], need) or _reach_problem(tables, need)


def _attention_problem(attention: pd.DataFrame, need: Need) -> str | None:
    if need.block_size not in set(attention["block_size"]):
        return f"attention.csv has no rows of KV blocks of {need.block_size} tokens"
    beside = attention["is_true_mixed_batch"].astype(str).str.lower() if "is_true_mixed_batch" in attention else pd.Series(dtype=str)
    if not beside.isin(["true", "1", "1.0"]).any():
        return "attention.csv has no steps of prompts and decodes together"
    reach = {"cached tokens": ("kv_cache_size", need.longest), "sequences": ("batch_size", need.batch)}
    for what, (column, needed) in reach.items():
        if attention[column].max() < needed:
            return f"attention.csv ends at {attention[column].max():.0f} {what}, {needed} are needed"
    return None


def _reach_problem(tables: Mapping[str, pd.DataFrame], need: Need) -> str | None:
    for flag, name in (("linear_op", "linear_op.csv"), ("moe", "moe.csv")):
        if flag in tables and (most := tables[flag]["num_tokens"].max()) < need.step:
            return f"{name} ends at {most:.0f} tokens of a step, {need.step} are needed"
    return None
