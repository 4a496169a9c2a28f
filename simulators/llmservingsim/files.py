"""What LLMServingSim reads (a cluster as JSON, requests as JSONL, its command line) and what it writes (a CSV with a row per request)."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.record import RequestRecord
from results.recordings.predictions import RequestPrediction, read_predictions
from results.recordings.recording import RecordingError
from simulators.errors import SimulatorError
from simulators.foreign.program import check_finite, check_rows, check_tokens, describe_log
from simulators.llmservingsim.clone import SYSTEM
from workloads.trace import Request, Trace, TraceError

NANOSECOND = 1e-9
GIB = 1024**3
SPARE = 0.5  # blocks beyond those asked for, so that rounding takes none away
CAPACITY = re.compile(r"Instance \[0\]\s*: (\d+) tokens / (\d+) blocks")  # of its log
TOLERANCE = 2e-9  # s; it counts in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """The engine's limits in LLMServingSim's terms. blocks: of the KV cache; None: its own estimate of the GPU's memory."""

    block_size: int
    batch: int
    tokens: int
    chunked_prefill: bool
    prefix_caching: bool
    blocks: int | None


@dataclass(frozen=True, kw_only=True)
class ServingScenario:
    """What is to be simulated."""

    trace: Trace  # as sent
    limits: ServingLimits | None  # None: LLMServingSim's own defaults (as shipped)
    model: str  # its name of it
    device: str  # its name of the GPU
    tensor_parallel: int  # devices
    sizes: Mapping[str, Any]  # its config.json of the model
    memory: float  # GB of a device
    bandwidth: float  # GB/s of that memory
    link: float  # GB/s between devices
    link_latency: float  # ns of a message between devices


def cluster(scenario: ServingScenario) -> dict[str, Any]:
    """One node with one instance. The host's memory holds nothing here, and is the one of its examples."""
    memory, limits = {"mem_size": scenario.memory, "mem_bw": scenario.bandwidth, "mem_latency": 0}, scenario.limits
    if limits is not None and limits.blocks is not None:
        memory |= {"mem_size": room(scenario.sizes, scenario.tensor_parallel, limits.blocks, limits.block_size), "mem_util": 1.0}
    instance = {
        "model_name": scenario.model,
        "hardware": scenario.device,
        "npu_mem": memory,
        "num_npus": scenario.tensor_parallel,
        "tp_size": scenario.tensor_parallel,
        "pd_type": None,
    }
    host = {"mem_size": 512, "mem_bw": 256, "mem_latency": 0}
    return {
        "num_nodes": 1,
        "link_bw": scenario.link,
        "link_latency": scenario.link_latency,
        "nodes": [{"num_instances": 1, "cpu_mem": host, "instances": [instance]}],
    }


def room(sizes: Mapping[str, Any], parallel: int, blocks: int, block_size: int) -> float:
    """GiB of a device whose memory holds the weights and just so many KV blocks, as LLMServingSim counts both (16 bits an element).

    Its way to count weights is its own (`MemoryModel.get_weight` there); `check_capacity` holds what came of it against what was asked.
    """
    hidden, layers, vocabulary = (int(sizes[name]) for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    head = int(sizes.get("head_dim") or hidden // int(sizes["num_attention_heads"]))
    queries = int(sizes["num_attention_heads"]) * head
    keys = int(sizes.get("num_key_value_heads") or sizes["num_attention_heads"]) * head
    experts = int(sizes.get("num_local_experts") or sizes.get("num_experts") or 0)
    inner = int(sizes.get("moe_intermediate_size") or sizes["intermediate_size"]) if experts else int(sizes["intermediate_size"])
    mlp = hidden * experts + experts // parallel * 3 * hidden * inner if experts else 3 * hidden * (inner // parallel)
    layer = 2 * hidden + hidden * ((queries + 2 * keys) // parallel) + queries // parallel * hidden + mlp
    weights = 2 * (2 * (vocabulary // parallel) * hidden + hidden + layers * layer)
    token = 2 * keys * layers * 2 // parallel
    return (weights + (blocks + SPARE) * token * block_size) / GIB


def refuse_too_long(trace: Trace, limits: ServingLimits | None) -> None:
    """Raise SimulatorError naming the first request that never fits into the KV cache: LLMServingSim would wait for it for ever."""
    if limits is None or limits.blocks is None:
        return
    held = limits.blocks * limits.block_size
    for request in trace:
        if request.input_tokens + request.output_tokens > held:
            sizes = f"{request.input_tokens} + {request.output_tokens} tokens"
            raise SimulatorError(
                f"{SYSTEM}: request {request.request_id} of {sizes} does not fit into {held} tokens of KV cache; leave it out"
            )


def check_capacity(log: Path, limits: ServingLimits | None) -> int:
    """KV blocks that its log says it had. Raises SimulatorError when it had others than the engine."""
    found = CAPACITY.search(log.read_text(errors="replace"))
    if found is None:
        raise SimulatorError(f"{SYSTEM}: its log does not say how many KV blocks it had; {describe_log(log)}")
    blocks = int(found[2])
    if limits is not None and limits.blocks not in (None, blocks):
        raise SimulatorError(f"{SYSTEM}: it was to have {limits.blocks} KV blocks, and had {blocks}; {describe_log(log)}")
    return blocks


def nanoseconds(request: Request) -> int:
    """When a request is sent, in its unit."""
    return round(request.arrival / NANOSECOND)


def write_requests(trace: Trace, prefix_caching: bool, path: Path) -> None:
    """The requests in the trace's order, line i = request i; with the ids of the prompts' tokens where they may be cached."""
    with path.open("w", encoding="utf-8") as file:
        for request, ids in zip(trace, token_ids(trace) if prefix_caching else (None for _ in trace), strict=True):
            row = {"input_toks": request.input_tokens, "output_toks": request.output_tokens, "arrival_time_ns": nanoseconds(request)}
            file.write(json.dumps(row if ids is None else {**row, "input_tok_ids": ids}) + "\n")


def token_ids(trace: Trace) -> Iterator[list[int]]:
    """Of each prompt: alike where two prompts share their leading blocks, and else in no other prompt."""
    size = trace.block_size or 1
    known: dict[int, int] = {}
    fresh = size * sum(len(request.blocks) for request in trace)  # ids from here on are nobody else's
    for request in trace:
        shared = [known.setdefault(block, len(known)) * size + place for block in request.blocks for place in range(size)]
        own = request.input_tokens - len(shared)
        yield [*shared[: request.input_tokens], *range(fresh, fresh + max(0, own))]
        fresh += max(0, own)


def words(scenario: ServingScenario, *, config: str, requests: str, out: Path, inputs: Path) -> list[str]:
    """Its command line. config, requests: its input files, from the clone's folder. out, inputs: what it writes, absolute."""
    every: dict[str, Any] = {
        "cluster-config": config,
        "dataset": requests,
        "output": out,
        "inputs-root": inputs,
        "dtype": "bfloat16",
        "log-interval": 60,
    }
    if (limits := scenario.limits) is not None:
        every |= {"block-size": limits.block_size, "max-num-seqs": limits.batch, "max-num-batched-tokens": limits.tokens}
    said = [] if limits is None else [("chunked-prefill", limits.chunked_prefill), ("prefix-caching", limits.prefix_caching)]
    switches = [f"--{'' if on else 'no-'}enable-{name}" for name, on in said]
    return [word for name, value in every.items() for word in (f"--{name}", str(value))] + switches


def read_records(path: Path, trace: Trace, log: Path) -> list[RequestRecord]:
    """One record per request, in the trace's order. Raises SimulatorError for lost rows, other token counts, and times that are none."""
    try:
        rows = {row.request_id: row for row in read_predictions(path).requests}
    except (RecordingError, TraceError, OSError) as error:
        raise SimulatorError(f"{SYSTEM}: its output cannot be read ({error}); {describe_log(log)}") from error
    ids = {place: request.request_id for place, request in enumerate(trace)}
    check_rows(SYSTEM, list(ids.values()), [ids.get(place, place) for place in rows], log)
    return [_record(request, rows[place], log) for place, request in enumerate(trace)]


def _record(request: Request, row: RequestPrediction, log: Path) -> RequestRecord:
    check_tokens(SYSTEM, request, row.input_tokens, row.output_tokens, log)
    first, last, times = row.first or 0.0, row.last or 0.0, row.tokens or ()
    check_finite(SYSTEM, request.request_id, {"TTFT": first, "latency": last}, log)
    if len(times) != request.output_tokens or not 0 < first <= last or abs(times[-1] - last) > TOLERANCE * len(times):
        raise SimulatorError(
            f"{SYSTEM}: request {request.request_id} has a TTFT of {first} s, an E2E of {last} s and {len(times)} token times for "
            f"{request.output_tokens} tokens, which contradict each other; {describe_log(log)}"
        )
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival,
        first_token=request.arrival + first,
        finished=request.arrival + last,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        token_times=tuple(request.arrival + time for time in (*times[:-1], last)),
    )
