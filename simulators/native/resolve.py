"""The Limits of an engine, complete: from what it said of itself, or from sizes alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from results.record import EngineLimits, Run
from simulators.errors import NotAvailable, SimulatorError
from simulators.native.architecture.decoder import Decoder
from simulators.native.effects.effects import Effects
from simulators.native.latency.device import Device
from simulators.native.latency.parallelism import Parallelism
from simulators.native.memory.layout import grouped_layout, whole_layout
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.sglang_options import SglangOptions

ASYNCHRONOUS_SINCE = [0, 14]  # version of vLLM from which on it schedules asynchronously by itself (its release notes of v0.14.0)
NULL_BLOCKS = 1  # vLLM counts one block that no request can hold
SERVED_WHOLE = 4  # tokens, prompt and output, beyond its longest prompt that SGLang serves whole (harness/engines/sglang.py)
NEEDED = ("kv_tokens", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "chunked_prefill", "prefix_caching")


class NoRoom(SimulatorError):
    """A model that does not fit a device's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Limits of an engine of which nothing is known but the model and the device (the shipped track). Names as in Limits.

    memory_utilization: share of the device's memory for weights, activations and KV; activations: bytes of it that steps need.
    """

    memory_utilization: float
    activations: float
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    in_flight: int

    def __post_init__(self) -> None:
        if not 0 < self.memory_utilization <= 1:
            raise ValueError(f"shipped.memory_utilization must be in (0, 1], got {self.memory_utilization}")

    def limits(
        self,
        shape: Decoder,
        device: Device,
        *,
        parallel: Parallelism,
        max_model_len: int,
        effects: Effects = Effects(),  # noqa: B008 - frozen
        grouped: bool = False,
        prefix_caching: bool = True,
    ) -> Limits:
        """The limits of such an engine. grouped: whether its layers' KV is kept in groups (memory/hybrid.py).

        Raises NoRoom when the model does not fit, and says by how much.
        """
        layout = (grouped_layout if grouped else whole_layout)(shape, tensor=parallel.tensor, block_size=self.block_size)
        weights = parallel.weight_bytes(shape) * (1 - effects.weights_on_host)
        state = self.max_num_seqs * layout.state_bytes / parallel.pipeline
        room = device.memory * self.memory_utilization - self.activations - weights - state
        room += effects.host_bytes(shape, device, room)
        block = layout.block_bytes / parallel.pipeline
        needed = layout.blocks(max_model_len, self.in_flight * self.max_num_batched_tokens) * block
        if room < needed:
            raise NoRoom(
                f"native: {weights / 1e9:.1f} GB of weights and {needed / 1e9:.1f} GB of KV for one request of {max_model_len} tokens "
                f"do not fit {self.memory_utilization:.0%} of {device.name}'s {device.memory / 1e9:.0f} GB: "
                f"{(needed - room) / 1e9:.1f} GB too much; use a larger device, more of them (tensor_parallel), or a smaller max_model_len"
            )
        return Limits(
            kv_blocks=int(room / block),
            block_size=layout.block_size,
            kv_groups=layout.groups,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_model_len=max_model_len,
            prefix_caching=prefix_caching,
            in_flight=self.in_flight,
        )


def with_capacity(said: EngineLimits, own: Limits) -> EngineLimits:
    """What an engine said of its limits, and where that is all but the size of its KV cache, that of the memory model. own: shipped."""
    missing = [name for name in NEEDED if getattr(said, name) is None]
    if missing != ["kv_tokens"] or not said.block_size:
        return said
    return replace(said, kv_tokens=(own.kv_blocks * own.block_size // said.block_size + NULL_BLOCKS) * said.block_size)


def limits_of(said: EngineLimits, config: Mapping[str, Any], whose: str, *, vllm: str | None = None) -> Limits:
    """The limits that an engine resolved its configuration to. Raises NotAvailable naming what it did not say.

    config: of the run. Limits that EngineLimits has no field for are taken from the engine's own account of its scheduler, which may be in
    `config`; otherwise they are vLLM's defaults, of the version `vllm` where one is given. whose: for the error. Raises NotAvailable, too,
    when SGLang orders its queue in a way that is not modelled.
    """
    missing = [name for name in NEEDED if getattr(said, name) is None]
    if missing:
        raise NotAvailable(f"native: the engine of {whose} did not say its {', '.join(missing)}; only the shipped track can run")
    assert said.kv_tokens and said.block_size and said.max_num_seqs and said.max_num_batched_tokens and said.max_model_len
    if server := told(config, "server_info"):
        return _sglang_limits(said, server, whose)
    account = told(config, "vllm_config", "scheduler_config") or told(config, "prefill", "vllm_config", "scheduler_config")
    return Limits(
        kv_blocks=said.kv_tokens // said.block_size - NULL_BLOCKS,
        block_size=said.block_size,
        max_num_seqs=said.max_num_seqs,
        max_num_batched_tokens=said.max_num_batched_tokens,
        max_model_len=said.max_model_len,
        chunked_prefill=bool(said.chunked_prefill),
        prefix_caching=bool(said.prefix_caching),
        long_prefill_token_threshold=int(account.get("long_prefill_token_threshold") or 0),
        policy=account.get("policy") or "fcfs",
        watermark=float(account.get("watermark") or 0.0),
        reserve_full_prompt=bool(account.get("scheduler_reserve_full_isl", True)),
        in_flight=2 if _schedules_ahead(account, config, vllm) else 1,
    )


def _schedules_ahead(account: Mapping[str, Any], config: Mapping[str, Any], version: str | None) -> bool:
    """Whether a vLLM schedules asynchronously: as it says of itself, else as the run says of its settings, else its version's default."""
    engine = config.get("engine") or {}
    for said in (account.get("async_scheduling"), engine.get("async_scheduling")):
        if said is not None:
            return bool(said)
    numbers = [int(part) for part in re.findall(r"\d+", version or "")[:2]]
    return numbers >= ASYNCHRONOUS_SINCE


def parallelism_of(said: EngineLimits) -> Parallelism:
    """How an engine shares its model."""
    return Parallelism(tensor=said.tensor_parallel, data=said.data_parallel, pipeline=said.pipeline_parallel, expert=said.expert_parallel)


def vllm_version(run: Run) -> str | None:
    """The version of a run's vLLM; None for another engine, and where it is not known."""
    return run.version if run.system == "vllm" else None


def _sglang_limits(said: EngineLimits, server: Mapping[str, Any], whose: str) -> Limits:
    """The limits of an SGLang, from its /server_info."""
    order = server.get("schedule_policy") or "fcfs"
    if order != "fcfs":
        raise NotAvailable(f"native: the engine of {whose} orders its queue by {order}; only fcfs is modelled")
    assert said.kv_tokens and said.block_size and said.max_num_seqs and said.max_num_batched_tokens and said.max_model_len
    plain = SglangOptions()
    return Limits(
        kv_blocks=said.kv_tokens // said.block_size,
        block_size=said.block_size,
        max_num_seqs=said.max_num_seqs,
        max_num_batched_tokens=said.max_num_batched_tokens,
        max_model_len=said.max_model_len + SERVED_WHOLE,
        chunked_prefill=bool(said.chunked_prefill),
        prefix_caching=bool(said.prefix_caching),
        in_flight=1 if server.get("disable_overlap_schedule") else 2,
        sglang=SglangOptions(
            max_prefill_tokens=int(server.get("max_prefill_tokens") or plain.max_prefill_tokens),
            mixed_chunk=bool(server.get("enable_mixed_chunk")),
            schedule_conservativeness=float(server.get("schedule_conservativeness", plain.schedule_conservativeness)),
            recomputes_prefixes=server.get("attention_backend") == "torch_native",
        ),
    )


def told(config: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """What the engine's server said under these names (vLLM: vllm_config, SGLang: server_info); {} when it said nothing."""
    found: Any = config
    for key in ("engine", "details", *path):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def drafts_told(config: Mapping[str, Any]) -> dict[str, int]:
    """What the engine's server said of the drafts that it verified, by the names of Speculation's settings; {}: of none."""
    vllm, sglang = told(config, "vllm_config", "speculative_config"), told(config, "server_info")
    found = {
        "num_speculative_tokens": vllm.get("num_speculative_tokens") or sglang.get("speculative_num_steps"),
        "speculative_eagle_topk": sglang.get("speculative_eagle_topk"),
        "speculative_num_draft_tokens": sglang.get("speculative_num_draft_tokens"),
    }
    if not found["num_speculative_tokens"] and sglang.get("speculative_algorithm") is None:
        return {}
    return {name: value for name, value in found.items() if value is not None}
