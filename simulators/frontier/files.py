"""What Frontier reads: its trace, the model that it simulates, its command line.

Read first: `FrontierScenario` (what is to be simulated, resolved to numbers), then `words`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from simulators.errors import SimulatorError
from simulators.foreign.vidur_kin import Forest
from simulators.frontier.tables import StepGrid
from simulators.inputs import KVShape, Pools
from workloads.trace import Trace

SYSTEM = "frontier"
PREDICTOR = "random_forrest_execution_time_predictor_config_"  # its spelling
SCHEDULER = "vllm_v1_scheduler_config_"
WATERMARK = 0.01  # share of the KV blocks that it keeps free at admission; its default
BITS = 8 / 1e9  # Gbit of a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierLimits:
    """The engine's limits in Frontier's terms; tokens is the budget of a step."""

    num_blocks: int
    block_size: int
    batch: int
    tokens: int
    chunked_prefill: bool
    prefix_caching: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where step times are from: its files by flag, the model, device and machine that they are of, and how many devices.

    measured: whole steps, to which nothing may be added. experts: of a mixture, its flags.
    """

    files: Mapping[str, Path]
    model: str
    device: str
    network: str
    tensor_parallel: int
    measured: bool
    experts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FrontierScenario:
    """What is to be simulated."""

    trace: Trace  # as sent
    limits: FrontierLimits | None  # None: Frontier's own defaults (as shipped)
    times: Times
    grid: StepGrid  # what the forests must predict
    forest: Forest
    pools: Pools | None = None  # None: one instance for both prefill and decode
    kv: KVShape | None = None  # of a token that is handed over; None: of the model that it simulates

    @property
    def max_tokens(self) -> int:
        """As many as the longest request has, so that its silent truncation never strikes."""
        return max(r.input_tokens + r.output_tokens for r in self.trace)


def refuse_too_long(scenario: FrontierScenario, max_model_len: int | None) -> None:
    """Raise SimulatorError naming the first request that can never run: Frontier would wait for it for ever."""
    limits = scenario.limits
    for request in scenario.trace:
        total, where = request.input_tokens + request.output_tokens, f"{SYSTEM}: request {request.request_id} of {request.input_tokens}"
        if max_model_len is not None and total > max_model_len:
            raise SimulatorError(f"{where} + {request.output_tokens} tokens is longer than the model's {max_model_len}; leave it out")
        if limits is not None and total > (1 - WATERMARK) * limits.num_blocks * limits.block_size:
            kv = limits.num_blocks * limits.block_size
            raise SimulatorError(f"{where} + {request.output_tokens} tokens does not fit into {kv} tokens of KV cache; leave it out")
        if limits is not None and not limits.chunked_prefill and request.input_tokens > limits.tokens:
            raise SimulatorError(f"{where} tokens exceeds the {limits.tokens} of a step, and the engine cuts no prompt; leave it out")


def write_trace(scenario: FrontierScenario, path: Path) -> None:
    """The requests in the trace's order, row i = request i; times in seconds to the last bit. Each is a session of its own."""
    trace, limits = scenario.trace, scenario.limits
    frame = pd.DataFrame(
        {
            "arrived_at": [r.arrival for r in trace],
            "num_prefill_tokens": [r.input_tokens for r in trace],
            "num_decode_tokens": [r.output_tokens for r in trace],
        }
    )
    if limits is not None and limits.prefix_caching:
        frame["session_id"] = range(len(trace))
        frame["block_hash_ids"] = [json.dumps(ids) for ids in block_ids(trace, limits.block_size)]
    frame.to_csv(path, index=False)


def block_ids(trace: Trace, block_size: int) -> list[list[int]]:
    """The ids of each prompt's KV blocks: shared ones alike in all prompts that share them, all others in no other prompt.

    A shared block is known by what precedes it, as engines hash it; of one that is not whole in tokens of the trace's blocks nothing is
    shared. The last block counts though the prompt may end in it: Frontier refuses a prompt without any.
    """
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    fresh = len(trace) * max(-(-r.input_tokens // block_size) for r in trace)  # ids from here on are nobody else's
    found = []
    for request in trace:
        ids = []
        for place in range(-(-request.input_tokens // block_size)):
            end = (place + 1) * block_size
            leading = -(-end // trace.block_size) if trace.block_size else 0
            if end <= request.input_tokens and 0 < leading <= len(request.blocks):
                ids.append(known.setdefault((place, request.blocks[:leading]), len(known)))
            else:
                ids.append(fresh)
                fresh += 1
        found.append(ids)
    return found


def words(scenario: FrontierScenario, *, trace: Path, out: Path, cache: Path) -> list[str]:
    """Frontier's command line. trace, out, cache: its input file and its folders."""
    times, grid = scenario.times, scenario.grid
    every: dict[str, Any] = {
        "simulation_mode": "online",
        "sys_arch": "pd-disaggregation" if scenario.pools else "co-location",
        "log_level": "error",
        "replica_config_model_name": times.model,
        "replica_config_device": times.device,
        "replica_config_network_device": times.network,
        "replica_config_attn_tensor_parallel_size": times.tensor_parallel,
        **times.experts,
        "cc_backend_config_type": "analytical",
        "decode_cuda_graph_mode": "none",
        "replica_scheduler_config_type": "vllm_v1",
        "request_generator_config_type": "trace_replay",
        "trace_request_generator_config_trace_file": trace,
        "trace_request_generator_config_max_tokens": scenario.max_tokens,
        "metrics_config_output_dir": out,
        "metrics_config_run_id": "run",
        "metrics_config_cache_dir": cache,
        **_pools(scenario),
        **_limits(scenario.limits),
        **_predictor(scenario, grid),
    }
    return [word for name, value in every.items() for word in (f"--{name}", str(value))] + _switches(scenario.limits)


def _switches(limits: FrontierLimits | None) -> list[str]:
    on = [f"metrics_config_{name}" for name in ("write_metrics", "store_request_metrics")]
    # it keeps its ledger of steps only beside the utilization
    on += ["metrics_config_store_frontier_stage_batch_ledger", "metrics_config_store_utilization_metrics"]
    on += [f"{PREDICTOR}skip_cpu_overhead_modeling"]
    off = [f"metrics_config_store_{name}" for name in ("plots", "batch_metrics", "token_completion_metrics", "operation_metrics")]
    off += ["metrics_config_enable_chrome_trace", "metrics_config_write_json_trace"]
    off += [f"{PREDICTOR}enable_dummy_mode", "enable_parallel_clusters"]
    (on if limits is None or limits.chunked_prefill else off).append(f"{SCHEDULER}enable_chunked_prefill")
    (on if limits is not None and limits.prefix_caching else off).append(f"{SCHEDULER}enable_prefix_caching")
    return [*(f"--{name}" for name in on), *(f"--no-{name}" for name in off)]


def _limits(limits: FrontierLimits | None) -> dict[str, Any]:
    if limits is None:
        return {}
    values = {
        "num_blocks_mode": "explicit",
        "num_blocks": limits.num_blocks,
        "block_size": limits.block_size,
        "batch_size_cap": limits.batch,
        "max_tokens_in_batch": limits.tokens,
        "watermark_blocks_fraction": WATERMARK,
    }
    return {f"{SCHEDULER}{name}": value for name, value in values.items()}


def _pools(scenario: FrontierScenario) -> dict[str, Any]:
    """The two clusters of topology pd, each with the settings of one replica, and the link between them."""
    if scenario.pools is None:
        return {"cluster_config_num_replicas": 1}
    values: dict[str, Any] = {}
    for kind, count in (("prefill", scenario.pools.prefill), ("decode", scenario.pools.decode)):
        values[f"cluster_config_{kind}_cluster_num_replicas"] = count
        replica = {"device": scenario.times.device, "attn_tensor_parallel_size": scenario.times.tensor_parallel}
        replica |= {"network_device": scenario.times.network, "num_pipeline_stages": 1, "attn_data_parallel_size": 1}
        values |= {f"cluster_config_{kind}_replica_config_{name}": value for name, value in replica.items()}
    if scenario.pools.transfer is None:
        return values
    link: dict[str, Any] = {"network_bandwidth_gbps": scenario.pools.transfer * BITS, "network_latency_ms": 0}
    if (kv := scenario.kv) is not None:
        link |= {"override_num_layers": kv.layers, "override_num_heads": 1, "override_head_dim": kv.width}
        link["kv_cache_dtype_size_bytes"] = kv.element
    return values | {f"analytical_kv_cache_transfer_config_{name}": value for name, value in link.items()}


def _predictor(scenario: FrontierScenario, grid: StepGrid) -> dict[str, Any]:
    values: dict[str, Any] = {
        **{f"{name}_input_file": path for name, path in scenario.times.files.items()},
        **scenario.forest.settings(),
        "kv_cache_prediction_granularity": grid.granularity,
        "prediction_max_prefill_chunk_size": grid.step,
        "prediction_max_batch_size": grid.batch,
        "prediction_max_tokens_per_request": max(grid.step, grid.context),
    }
    if scenario.times.measured:
        values |= {"attention_decode_batching_overhead_fraction": 0, "attention_prefill_batching_overhead_fraction": 0}
    return {f"{PREDICTOR}{name}": value for name, value in values.items()}
