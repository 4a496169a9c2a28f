"""What Vidur reads: the trace, the profile in its own format (a HuggingFace dataset folder, or plain CSV files), its command line.

Read first: `VidurScenario` (what is to be simulated, resolved to numbers), then `flags`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from simulators.errors import SimulatorError
from simulators.foreign.vidur_kin import Forest
from simulators.vidur.tables import TOKENS_STEP, ProfileGrid, Source, collective_rows, up
from workloads.trace import Trace

TRACE_DATE = "2023-08-21"  # the PyPI release drops every row of another date without a word
DATASET = "local/profile"
PREDICTOR = "random_forrest_execution_time_predictor_config_"  # its spelling
SHIPPED_MAX_TOKENS = 4096  # Vidur's default for one request


@dataclass(frozen=True, slots=True, kw_only=True)
class VidurNames:
    """How Vidur finds a model, a device and a machine (a network of devices)."""

    model: str
    device: str
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VidurLimits:
    """The engine's limits in Vidur's terms; tokens is the budget of a step."""

    num_blocks: int
    block_size: int
    batch: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class VidurScenario:
    """What is to be simulated."""

    source: Source  # pypi or git: the two differ in their files and flags
    scheduler: str  # in Vidur's words
    trace: Trace  # as sent
    names: VidurNames  # of the model, the device and the machine
    limits: VidurLimits | None  # None: Vidur's own defaults (as shipped)
    measured: bool  # whether the profile holds whole measured steps, so that nothing may be added to them
    tensor_parallel: int  # devices
    watermark: float  # share of the KV blocks kept free at admission
    grid: ProfileGrid  # what the forests must predict
    forest: Forest  # how they are trained
    seed: int  # of its draws

    @property
    def max_tokens(self) -> int:
        """More than the longest request, so that Vidur's silent truncation never strikes."""
        longest = max(r.input_tokens + r.output_tokens for r in self.trace)
        return max(up(longest + 1, TOKENS_STEP), SHIPPED_MAX_TOKENS if self.limits is None else 0)


def grid_for(trace: Trace, *, batch: int, budget: int, whole_prompts: bool, granularity: int) -> ProfileGrid:
    """The smallest grid that covers every step a trace can lead to.

    batch, budget: sequences and tokens of a step, at most. whole_prompts: whether a step takes prompts whole, whatever the budget.
    granularity: tokens between two contexts.
    """
    longest = max(r.input_tokens + r.output_tokens for r in trace) + 2
    batch = min(batch, len(trace))
    everything = sum(r.input_tokens + r.output_tokens for r in trace)
    step = min(batch * longest if whole_prompts else max(budget, batch), everything)
    return ProfileGrid(
        tokens=up(step, TOKENS_STEP),
        chunk=up(min(longest, step), 32),
        batch=batch,
        context=up(longest, granularity),
        granularity=granularity,
    )


def refuse_too_long(scenario: VidurScenario, max_model_len: int | None) -> None:
    """Raise SimulatorError naming the first request that Vidur would cut, never schedule, or restart for ever."""
    limits = scenario.limits
    for request in scenario.trace:
        total, where = request.input_tokens + request.output_tokens, f"vidur: request {request.request_id} of {request.input_tokens}"
        if max_model_len is not None and total > max_model_len:
            raise SimulatorError(f"{where} + {request.output_tokens} tokens is longer than the model's {max_model_len}; leave it out")
        if limits is None:
            continue
        blocks = math.ceil(total / limits.block_size) + int(scenario.watermark * limits.num_blocks)
        if blocks > limits.num_blocks:
            kv = limits.num_blocks * limits.block_size
            raise SimulatorError(f"{where} + {request.output_tokens} tokens does not fit into {kv} tokens of KV cache; leave it out")
        if scenario.scheduler == "vllm" and request.input_tokens > limits.tokens:
            raise SimulatorError(f"{where} tokens exceeds the {limits.tokens} of a step, and scheduler=vllm cuts no prompt; use sarathi")


def write_trace(trace: Trace, source: Source, path: Path) -> None:
    """The requests in the trace's order, row i = request i; times in seconds to the last bit."""
    times, inputs, outputs = zip(*((r.arrival, r.input_tokens, r.output_tokens) for r in trace), strict=True)
    if source == "pypi":
        frame = pd.DataFrame({"Date": TRACE_DATE, "Time": times, "PromptTokenCount": inputs, "CompletionTokenCount": outputs})
    else:
        frame = pd.DataFrame({"arrived_at": times, "num_prefill_tokens": inputs, "num_decode_tokens": outputs})
    frame.to_csv(path, index=False)


def model_fields(name: str, config: Mapping[str, Any], max_model_len: int, source: Source) -> dict[str, Any]:
    """A HuggingFace config.json as the fields of Vidur's model config. Raises KeyError naming a field that is not there."""
    return {
        "name": name,
        "num_layers": int(config["num_hidden_layers"]),
        "num_q_heads": int(config["num_attention_heads"]),
        "num_kv_heads": int(config.get("num_key_value_heads") or config["num_attention_heads"]),
        "embedding_dim": int(config["hidden_size"]),
        "mlp_hidden_dim": int(config["intermediate_size"]),
        "vocab_size": int(config["vocab_size"]),
        "max_model_len" if source == "pypi" else "max_position_embeddings": max_model_len,
    }


def write_profile(
    linear: pd.DataFrame, attention: pd.DataFrame, scenario: VidurScenario, model: Mapping[str, Any], folder: Path
) -> dict[str, Path] | None:
    """Write the profile's tables under `folder`: for PyPI the datasets of its cache folder (None), for git files, returned by flag.

    linear, attention: its mlp.csv and attention.csv without the columns that name the model.
    """
    tp, grid = scenario.tensor_parallel, scenario.grid
    assert scenario.limits is not None
    mlp = linear.assign(
        n_head=model["num_q_heads"],
        n_kv_head=model["num_kv_heads"],
        n_embd=model["embedding_dim"],
        n_expanded_embd=model["mlp_hidden_dim"],
        vocab_size=model["vocab_size"],
        use_gated_mlp=True,
        num_tensor_parallel_workers=tp,
    )
    attention = attention.assign(
        n_embd=model["embedding_dim"],
        n_q_head=model["num_q_heads"],
        n_kv_head=model["num_kv_heads"],
        block_size=scenario.limits.block_size,
        num_tensor_parallel_workers=tp,
        max_model_len=scenario.max_tokens,
        attention_backend="measured",
    )
    collectives = collective_rows(tp, grid.tokens, model["embedding_dim"])
    tables = {"compute": mlp, "attention": attention, "all_reduce": collectives, "send_recv": collectives}
    if scenario.source == "pypi":
        names, home = scenario.names, folder / "profiling_data"
        _dataset(home / "compute", {"model": names.model, "device_sku": names.device}, {"mlp": mlp, "attention": attention})
        _dataset(home / "network", {"sku": names.network}, {"all_reduce": collectives, "send_recv": collectives})
        return None
    folder.mkdir(parents=True)
    files = {name: folder / f"{name}.csv" for name in tables}
    for name, table in tables.items():
        table.to_csv(files[name], index=False)
    return files


def _dataset(folder: Path, config: Mapping[str, str], frames: Mapping[str, pd.DataFrame]) -> None:
    """A dataset as huggingface_hub keeps it in its cache, so that the PyPI release finds it offline."""
    home = folder / f"datasets--{DATASET.replace('/', '--')}"
    snapshot = home / "snapshots" / "measured"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(snapshot.name)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(config))
    for name, frame in frames.items():
        frame.to_csv(snapshot / f"{name}.csv.xz", index=False)


def shipped_files(checkout: Path, names: VidurNames) -> dict[str, Path]:
    """The profiles of a git checkout that the as-shipped track reads, by flag."""
    compute = checkout / "data" / "profiling" / "compute" / names.device / names.model
    network = checkout / "data" / "profiling" / "network" / names.network
    return {
        "compute": compute / "mlp.csv",
        "attention": compute / "attention.csv",
        "all_reduce": network / "all_reduce.csv",
        "send_recv": network / "send_recv.csv",
    }


def unusable(files: Iterable[Path]) -> str | None:
    """What is wrong with the first profile that cannot be read (missing, empty, a Git LFS pointer); None when all can."""
    for path in files:
        if not path.is_file():
            return f"{path} is missing"
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith(b"version https://git-lfs"):
            return f"{path} is a Git LFS pointer, not the data (git lfs pull brings it)"
        if not head:
            return f"{path} is empty"
    return None


def write_package(checkout: Path, folder: Path) -> None:
    """A folder for PYTHONPATH whose `vidur` is the checkout's: that one has no __init__.py, so the installed package would win."""
    package = folder / "vidur"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__ = [{str(checkout / 'vidur')!r}]\n")


def flags(scenario: VidurScenario, *, trace: Path, out: Path, cache: Path, files: Mapping[str, Path] | None) -> list[str]:
    """Vidur's command line. trace, out, cache: its input file and its folders. files: profile CSVs by flag (git)."""
    shared: dict[str, Any] = {
        "seed": scenario.seed,
        "replica_config_model_name": scenario.names.model,
        "replica_config_device": scenario.names.device,
        "replica_config_network_device": scenario.names.network,
        "replica_config_tensor_parallel_size": scenario.tensor_parallel,
        "replica_config_num_pipeline_stages": 1,
        "request_generator_config_type": "trace_replay",
        "trace_request_generator_config_trace_file": trace,
        "trace_request_generator_config_max_tokens": scenario.max_tokens,
        "trace_request_generator_config_prefill_scale_factor": 1,
        "trace_request_generator_config_decode_scale_factor": 1,
        "trace_request_generator_config_time_scale_factor": 1,
        "replica_scheduler_config_type": scenario.scheduler,
        "metrics_config_output_dir": out,
    }
    if scenario.source == "pypi":
        shared["trace_request_generator_config_date"] = TRACE_DATE
    switches = ["--metrics_config_enable_chrome_trace", "--no-metrics_config_store_plots"]
    switches += [f"--no-metrics_config_store_{what}_metrics" for what in ("utilization", "batch", "operation")]
    every = {**shared, **_predictor_flags(scenario, cache, files), **_limit_flags(scenario)}
    return [word for name, value in every.items() for word in (f"--{name}", str(value))] + switches


def _limit_flags(scenario: VidurScenario) -> dict[str, Any]:
    limits, scheduler = scenario.limits, f"{scenario.scheduler}_scheduler_config_"
    if limits is None:
        return {}
    cache = "cache_config_" if scenario.source == "pypi" else scheduler
    budget = {"sarathi": "chunk_size", "vllm": "max_tokens_in_batch"}.get(scenario.scheduler)
    return {
        f"{cache}num_blocks": limits.num_blocks,
        f"{cache}block_size": limits.block_size,
        f"{cache}watermark_blocks_fraction": scenario.watermark,
        f"{scheduler}batch_size_cap": limits.batch,
        **({f"{scheduler}{budget}": limits.tokens} if budget else {}),
    }


def _predictor_flags(scenario: VidurScenario, cache: Path, files: Mapping[str, Path] | None) -> dict[str, Any]:
    grid = scenario.grid
    values: dict[str, Any] = {
        **scenario.forest.settings(),
        "kv_cache_prediction_granularity": grid.granularity,
        "prediction_max_prefill_chunk_size": grid.chunk,
        "prediction_max_batch_size": grid.batch,
        "prediction_max_tokens_per_request": max(grid.tokens, grid.context),
    }
    cache_flag = f"{PREDICTOR}cache_dir" if scenario.source == "pypi" else "metrics_config_cache_dir"
    if scenario.source == "pypi":
        values |= {"model_profiling_dataset": DATASET, "network_profiling_dataset": DATASET}
    if files is not None:
        values |= {f"{name}_input_file": path for name, path in files.items()}
    if scenario.measured:  # whole measured steps hold these already
        values |= {"attention_decode_batching_overhead_fraction": 0, "nccl_cpu_launch_overhead_ms": 0}
        values |= {"attention_prefill_batching_overhead_fraction": 0} if scenario.source == "git" else {}
    return {cache_flag: cache, **{f"{PREDICTOR}{name}": value for name, value in values.items()}}
