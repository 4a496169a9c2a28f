"""AISimulate's files: the trace that it replays, its configuration, and the records that it writes.

Units: its times are milliseconds (floats, not rounded; the trace's `timestamp` too), and its second 0 is the first arrival.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results.record import EngineLimits, RequestRecord
from simulators.aisimulate.sending import Sending
from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.program import Usage, check_finite, check_rows, describe_log, interpreter, run_program
from simulators.inputs import Pools
from workloads.trace import Request, Trace

SYSTEM = "aisimulate"
MS = 1e-3  # s
GB = 1e9  # bytes
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")  # a config.json of a mixture has one of these
FAILED = "aisimulate predict failed: "  # a line of its log that says what went wrong
CAUSE_SHOWN = 300  # characters of it
TOLERANCE = 1e-6  # s between the arrival that was asked for and the one that it reports


@dataclass(frozen=True, slots=True, kw_only=True)
class AISimulateScenario:
    """What is to be simulated. Limits that are None are left to AISimulate's own defaults."""

    trace: Trace  # the requests
    sending: Sending  # when they are sent
    model: Path  # folder of a config.json
    hardware: str  # its name of the system that has the operation times
    version: str  # of the engine with which those were measured
    parallelism: Mapping[str, int]  # its settings of an instance's devices, as `parallelism` makes them
    prefix_caching: bool  # whether shared prefixes are computed once
    block_size: int | None = None  # tokens of a block of the KV cache
    blocks: int | None = None  # of the KV cache; None: as many as its own memory model finds room for
    max_num_seqs: int | None = None  # sequences in one step
    max_num_batched_tokens: int | None = None  # tokens in one step
    max_model_len: int | None = None  # tokens of one request; None: the model's
    pools: Pools | None = None  # None: one instance for both prefill and decode
    kv_bytes: int = 0  # of one token, as it is handed from a prefill to a decode instance
    speculation: Mapping[str, Any] | None = None  # its setting of this name; None: none
    tokenization: Mapping[str, Any] | None = None  # likewise
    host_offload: Mapping[str, Any] | None = None  # likewise, of each worker

    def settings(self, trace: Path) -> dict[str, Any]:
        """Its configuration file's content."""
        source = {"type": "trace", "format": "mooncake", "paths": [str(trace)], "block_size": trace_block_size(self.trace)}
        engine = {
            "mode": "disaggregated" if self.pools else "aggregated",
            "backend": "vllm",
            "backend_version": self.version,
            "model": str(self.model),
            "hardware": self.hardware,
            **_given(context_length=self.max_model_len, speculation=self.speculation, tokenization=self.tokenization),
            **self._workers(),
        }
        return {"traffic": {"source": source, "load": dict(self.sending.load)}, "engine": engine}

    def _workers(self) -> dict[str, Any]:
        if self.pools is None:
            return {"workers": {"aggregated": self._worker(1)}}
        apart = {"workers": {"prefill": self._worker(self.pools.prefill), "decode": self._worker(self.pools.decode)}}
        if self.pools.transfer is None:
            return apart
        link = {"bytes_per_token": self.kv_bytes, "bandwidth_gb_per_second": self.pools.transfer / GB}
        return {**apart, "kv_transfer": link}

    def _worker(self, replicas: int) -> dict[str, Any]:
        capacity = None if self.blocks is None else {"type": "fixed", "blocks": self.blocks}
        return {
            "parallelism": {**self.parallelism, "replicas": replicas * self.parallelism["replicas"]},
            "scheduler": _given(max_batched_tokens=self.max_num_batched_tokens, max_sequences=self.max_num_seqs),
            "kv_cache": _given(
                block_size=self.block_size, prefix_caching=self.prefix_caching, capacity=capacity, host_offload=self.host_offload
            ),
        }


def is_mixture(model: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a mixture of experts."""
    shape = model.get("text_config") or model
    return any(shape.get(name) for name in EXPERTS)


def parallelism(limits: EngineLimits, *, mixture: bool) -> dict[str, int]:
    """Its settings for an engine's devices. Each replica of a dense model is an engine of its own; those of a mixture of experts share the
    experts, as whole ones on devices of their own or in slices on all of them. All other limits are a replica's.
    """
    tensor, data, stages = limits.tensor_parallel, limits.data_parallel, limits.pipeline_parallel
    layers = {"tensor": tensor} | ({"pipeline": stages} if stages > 1 else {})
    if not mixture:
        return {"replicas": data, **layers}
    spread = {"moe_expert": limits.expert_parallel, "moe_tensor": tensor * data // limits.expert_parallel}
    return {"replicas": 1, **layers, "attention_data": data, **spread}


def run_prediction(
    system: str,
    environment: str,
    scratch: Path,
    settings: Mapping[str, Any],
    *,
    limit: float,
    words: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Usage:
    """`aisimulate predict` with these settings, its log in scratch/log, its files in scratch/out. words: more of its command line. limit,
    env: as of `run_program`. Raises SimulatorError.
    """
    log = scratch / "log"
    (scratch / "prediction.yaml").write_text(json.dumps(settings, indent=1))  # JSON is YAML
    # -P: nothing of the scratch folder can be imported
    argv = [str(interpreter(environment)), "-P", "-m", "aisimulate", "predict", "-c", str(scratch / "prediction.yaml")]
    argv += ["--output-dir", str(scratch / "out"), "--format", "json", *words]
    try:
        return run_program(system, argv, cwd=scratch, log=log, limit=limit, env=env)
    except NotAvailable:
        raise
    except SimulatorError as error:
        raise SimulatorError(f"{error}{_cause(log)}") from error


def _cause(log: Path) -> str:
    """What went wrong, where the last line of its log is only its supervisor's (newer wheels have one)."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    said = [line for line in lines if line.startswith(FAILED)]
    return f"; it said: {said[-1][:CAUSE_SHOWN]}" if said and said[-1] != lines[-1] else ""


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def trace_block_size(trace: Trace) -> int:
    """Tokens per hash id: the trace's own, or, where no prompt shares anything, the longest prompt."""
    return trace.block_size or max(r.input_tokens for r in trace)


def write_trace(trace: Trace, sending: Sending, path: Path) -> None:
    """The requests as Mooncake JSONL, session by session: its own ids are random, so a row that comes out is known by session and turn.

    A prompt's blocks keep their identity; what lies beyond them gets ids of its own, which no other prompt has.
    """
    size = trace_block_size(trace)
    interned: dict[int, int] = {}
    fresh = sum(len(r.blocks) for r in trace)  # ids from here on are nobody else's
    requests = {r.request_id: r for r in trace}
    with path.open("w", encoding="utf-8") as file:
        for session in sending.sessions:
            for turn, request in enumerate(requests[asked] for asked in session):
                needed = -(-request.input_tokens // size)
                blocks = [interned.setdefault(block, len(interned)) for block in request.blocks[:needed]]
                own = list(range(fresh, fresh + needed - len(blocks)))
                fresh += len(own)
                row = {
                    "session_id": str(session[0]),
                    **({"delay": sending.delays[request.request_id] / MS} if turn else {"timestamp": request.arrival / MS}),
                    "input_length": request.input_tokens,
                    "output_length": request.output_tokens,
                    "hash_ids": blocks + own,
                }
                file.write(json.dumps(row) + "\n")


def read_rows(path: Path, trace: Trace, sending: Sending, log: Path) -> dict[int, Mapping[str, Any]]:
    """Its rows by request id. Raises SimulatorError for missing rows, and rows of other requests than were asked for."""
    if not path.is_file():
        raise SimulatorError(f"{SYSTEM}: it ended without {path.name}; {describe_log(log)}")
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    places = sending.places
    ids = [places.get((row["session_id"], row["turn_index"]), int(row["session_id"])) for row in rows]
    check_rows(SYSTEM, [r.request_id for r in trace], ids, log)
    return dict(zip(ids, rows, strict=True))


def to_records(trace: Trace, sending: Sending, rows: Mapping[int, Mapping[str, Any]], offset: float, log: Path) -> list[RequestRecord]:
    """One record per request, in the trace's order. offset: s added to the first and last token for the front end.

    Where ends made requests due, arrivals are its own. A request that it rejected (too long for the model or for the KV cache) is a failed
    record. Raises SimulatorError when it simulated other arrivals or token counts than asked, or time runs backwards.
    """
    start = trace.requests[0].arrival
    due = {r.request_id: start + rows[r.request_id]["arrival_time_ms"] * MS for r in trace}
    as_due = (replace(r, arrival=due[r.request_id]) if sending.looped else r for r in trace)
    return [_record(request, rows[request.request_id], start, offset, log) for request in as_due]


def _record(request: Request, row: Mapping[str, Any], start: float, offset: float, log: Path) -> RequestRecord:
    asked = (request.input_tokens, request.output_tokens)
    got = (row["input_length"], row["requested_output_length"])
    if got != asked or abs(start + row["arrival_time_ms"] * MS - request.arrival) > TOLERANCE:
        raise SimulatorError(
            f"{SYSTEM}: request {request.request_id} of {asked} tokens at {request.arrival} s was simulated as {got} tokens at "
            f"{start + row['arrival_time_ms'] * MS} s; {describe_log(log)}"
        )
    common: dict[str, Any] = {"request_id": request.request_id, "arrival": request.arrival, "sent": request.arrival}
    if row["terminal_status"] != "completed" or row["output_length"] != request.output_tokens:
        done = f"after {row['output_length']} of {request.output_tokens} tokens"
        return RequestRecord(**common, error=f"{SYSTEM}: {row['terminal_status']} {done}")
    times = {name: start + row[f"{name}_ms"] * MS for name in ("first_admit", "first_token", "last_token")}
    check_finite(SYSTEM, request.request_id, times, log)
    scheduled, first_token, finished = times.values()
    if not request.arrival - TOLERANCE <= scheduled <= first_token <= finished:
        raise SimulatorError(f"{SYSTEM}: request {request.request_id}, sent at {request.arrival} s, has {times}; {describe_log(log)}")
    return RequestRecord(
        **common,
        scheduled=max(request.arrival, scheduled),
        first_token=first_token + offset,
        finished=finished + offset,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        cached_tokens=row["admission_history"][0]["reused_input_tokens"],  # later ones are its own, after a preemption
    )


def preemptions(rows: Sequence[Mapping[str, Any]]) -> int:
    """How often a running request was put back into the queue."""
    return sum(int(row["readmission_count"]) for row in rows)
