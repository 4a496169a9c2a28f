"""The form of LLMServingSim's `bench`: vLLM's own RequestStateStats of every request, in process (casys-kaist/LLMServingSim, MIT).

A folder of requests.jsonl, meta.json (the engine's arguments; newer ones also what it resolved them to), config.json (the hardware) and
timeseries.csv. Its three clocks are put on one in servingsim_clock.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.record import EngineLimits, RequestRecord
from results.recordings.about import Given
from results.recordings.recording import (
    Recording,
    RecordingError,
    check_order,
    chosen,
    named_like,
    object_rows,
    optional_number,
    read_mapping,
    sha256,
    started,
)
from results.recordings.servingsim_clock import ClockOffset, Stamped, start_of_ticks
from workloads.rows import Row, csv_rows, integer, number

NAME = "LLMServingSim's bench (its folder)"
STAMPS = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
NAMES = ("request_id", "input_toks", "output_toks", "arrival_time", *STAMPS)
TICKS = ("t", "prompt_throughput", "gen_throughput", "running", "waiting", "kv_cache_pct")
GAUGES = {"running": "num_requests_running", "waiting": "num_requests_waiting"}  # as vLLM's /metrics calls them
# What vLLM sets when it is not told, by release. Source: the resolved configuration that the same recorder read back from a vLLM 0.19.0
# (LLMServingSim 5daddb2, bench/examples/RTX4090/Llama-3.1-8B/vllm/meta.json).
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "0.19": {"block_size": 16, "chunked_prefill": True, "prefix_caching": True, "async_scheduling": True}
}
IN_SCHEDULER = {"chunked_prefill": "enable_chunked_prefill", "async_scheduling": "async_scheduling"}
IN_CACHE = {"block_size": "block_size", "prefix_caching": "enable_prefix_caching"}


def is_servingsim(path: Path) -> bool:
    """Whether the file is the requests.jsonl of this form."""
    return path.name == "requests.jsonl" and path.with_name("meta.json").is_file()


def read_servingsim(path: Path, given: Given) -> Recording:
    """Read the form. Of what is given it takes model and hardware (None: the one named like the recording's).

    Raises RecordingError, TraceError.
    """
    folder, about = path.parent, path.with_name("meta.json")
    if given.about is not None or given.said.keys() - {"model", "hardware"}:
        raise RecordingError(f"{folder}: it has a meta.json of its own; leave out --about, --system and --started-at")
    model, hardware = given.said.get("model"), given.said.get("hardware")
    meta = read_mapping(about)
    missing = [key for key in ("model", "vllm_version", "engine_kwargs", "started_at") if key not in meta]
    if missing:
        raise RecordingError(f"{about}: {', '.join(missing)} missing; it is not the meta.json of LLMServingSim's bench")
    arguments = meta["engine_kwargs"]
    if not isinstance(arguments, dict):
        raise RecordingError(f"{about}: engine_kwargs must hold names and values, got {arguments!r}")
    rows = list(_rows(path))
    clock = ClockOffset.of(path, rows)
    records = [_record(path, row, clock) for row in rows]
    config = chosen("model", model or named_like("model", str(meta["model"]), "--model"))
    limits, assumed = _limits(about, meta, arguments, config["config"])
    finished = started(f"{about}: finished_at", meta["finished_at"]).timestamp() if meta.get("finished_at") else None
    last = max((r.finished for _, r in records if r.finished is not None), default=None)
    telemetry, of_telemetry = _telemetry(folder / "timeseries.csv", rows, clock)
    dataset = Path(str(meta.get("dataset_path") or folder.name))
    files = [file for file in (path, about, folder / "config.json", folder / "timeseries.csv") if file.is_file()]
    return Recording(
        path=path,
        requests=tuple(records),
        form="LLMServingSim's bench",
        system="vllm",
        version=str(meta["vllm_version"]),
        workload={"name": dataset.stem, "dataset": str(dataset), "sha256": meta.get("dataset_hash")},
        model=config["name"],
        model_config=config["config"],
        hardware=_hardware(folder / "config.json", hardware),
        limits=limits,
        started_at=started(f"{about}: started_at", meta["started_at"]).isoformat(),
        files={file.name: sha256(file) for file in files},
        seed=arguments.get("seed"),
        engine={"arguments": arguments, "details": {"vllm_config": _account(meta, assumed)}},
        assumed={name: because for name, (_, because) in assumed.items()},
        not_recorded=("kv_tokens",) if limits.kv_tokens is None else (),
        provenance={
            "in_process": True,  # no server, so no front end before the engine
            "times": "the engine core's own, in process: no HTTP, no detokenising; arrival: when the request reached vLLM's front-end",
            "sent": "taken as the arrival: when the recorder meant to send is not in its file",
            "clock": clock.describe(last, finished),
            "telemetry": of_telemetry,
        },
        telemetry=telemetry,
    )


def _rows(path: Path) -> Iterable[Stamped]:
    for place, (line, fields) in enumerate(object_rows(path, required=NAMES, known=NAMES)):
        where = f"{path}:{line}"
        if fields["arrival_time"] is None:
            raise RecordingError(f"{where}: arrival_time is null: vLLM told nothing of this request; delete the line to import the others")
        stamps = {name: optional_number(where, fields, name) or None for name in STAMPS}  # 0.0: vLLM had not set it yet
        check_order(where, stamps)
        digits = re.search(r"\d+$", str(fields["request_id"]))
        yield Stamped(
            line=line,
            request_id=int(digits[0]) if digits else place,
            arrival=number(where, fields, "arrival_time"),
            input_tokens=integer(where, fields, "input_toks"),
            output_tokens=integer(where, fields, "output_toks"),
            **{name.removesuffix("_ts"): stamp for name, stamp in stamps.items()},
        )


def _record(path: Path, row: Stamped, clock: ClockOffset) -> tuple[Row, RequestRecord]:
    arrival = row.arrival - clock.arrival
    asked = Row(line=row.line, request_id=row.request_id, arrival=arrival, input_tokens=row.input_tokens, output_tokens=row.output_tokens)
    done = row.first_token is not None and row.last_token is not None
    record = RequestRecord(
        request_id=row.request_id,
        arrival=arrival,
        sent=arrival,
        scheduled=clock.seconds(row.scheduled),
        first_token=clock.seconds(row.first_token),
        finished=clock.seconds(row.last_token) if done else None,
        input_tokens=row.input_tokens if done else None,
        output_tokens=row.output_tokens if done else None,
        error=None if done else "it never finished: the recording has no last_token_ts",
    )
    return asked, record


def _limits(
    about: Path, meta: Mapping[str, Any], arguments: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[EngineLimits, dict[str, tuple[Any, str]]]:
    """The engine's limits, and the settings that are assumed: name to (value, why). A value read back is preferred to one that was asked
    for, and that to an assumed one.
    """
    resolved = _sections(meta.get("resolved_config"))
    scheduler = resolved.get("scheduler_config", {})
    cache = resolved.get("cache_config", {}) | dict(meta.get("kv_cache") or {})
    known: dict[str, Any] = {name: scheduler.get(key) for name, key in IN_SCHEDULER.items()}
    known |= {name: cache.get(key) for name, key in IN_CACHE.items()}
    known |= {name: scheduler.get(name) or arguments.get(name) for name in ("max_num_seqs", "max_num_batched_tokens")}
    known["max_model_len"] = resolved.get("model_config", {}).get("max_model_len") or arguments.get("max_model_len")
    known["kv_tokens"] = cache.get("num_kv_tokens")
    assumed: dict[str, tuple[Any, str]] = {}
    release = ".".join(str(meta["vllm_version"]).split(".")[:2])
    for name, value in DEFAULTS.get(release, {}).items():
        if known[name] is None:
            assumed[name] = value, f"{value}: vLLM's default at {release}, not read back"
    if known["max_model_len"] is None and model.get("max_position_embeddings"):
        longest = int(model["max_position_embeddings"])
        assumed["max_model_len"] = longest, f"{longest}: the model's max_position_embeddings, vLLM's default, not read back"
    known |= {name: value for name, (value, _) in assumed.items()}
    known.pop("async_scheduling")
    return EngineLimits(**_parallel(about, arguments), **known), assumed


def _parallel(about: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How many devices, and what they share; of vLLM's arguments, whose default is 1."""
    given = {key: value for key, value in arguments.items() if value is not None}
    found = {
        name: integer(f"{about}: engine_kwargs", {f"{name}_size": 1, **given}, f"{name}_size")
        for name in ("tensor_parallel", "pipeline_parallel", "data_parallel")
    }
    spread = found["tensor_parallel"] * found["data_parallel"] if given.get("enable_expert_parallel") else 1
    return {**found, "expert_parallel": spread}


def _account(meta: Mapping[str, Any], assumed: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """vLLM's configuration: what was read back of it, and the scheduling that is assumed (Recording.assumed says what)."""
    account = _sections(meta.get("resolved_config"))
    scheduler = {IN_SCHEDULER[name]: value for name, (value, _) in assumed.items() if name in IN_SCHEDULER}
    return account | ({"scheduler_config": account.get("scheduler_config", {}) | scheduler} if scheduler else {})


def _sections(resolved: Any) -> dict[str, dict[str, Any]]:
    """The parts of the resolved configuration that were recorded in full (the recorder names some by their type only)."""
    return {key: part for key, part in resolved.items() if isinstance(part, dict)} if isinstance(resolved, dict) else {}


def _hardware(path: Path, choice: str | None) -> dict[str, Any]:
    """The choice of conf/hardware that has the name in config.json, with the memory and bandwidth that config.json gives."""
    if choice is not None or not path.is_file():
        if choice is None:
            raise RecordingError(f"{path}: no such file, so nothing says what it ran on; give --hardware, a name from conf/hardware/")
        return chosen("hardware", choice)
    config = read_mapping(path)
    try:
        instance = config["nodes"][0]["instances"][0]
        name, memory = str(instance["hardware"]), dict(instance["npu_mem"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordingError(f"{path}: no nodes[0].instances[0] with a hardware and an npu_mem; give --hardware instead") from error
    hardware = chosen("hardware", named_like("hardware", name, "--hardware"))
    told = {"memory_gb": memory.get("mem_size"), "memory_bandwidth_gb_s": memory.get("mem_bw")}
    return hardware | {key: value for key, value in told.items() if value is not None}


def _telemetry(path: Path, rows: Sequence[Stamped], clock: ClockOffset) -> tuple[pd.DataFrame | None, str]:
    """The ticks of timeseries.csv as a run's telemetry, and in words how they were placed in time."""
    if not path.is_file():
        return None, "none recorded"
    cells = [(line, {name: number(f"{path}:{line}", row, name) for name in TICKS}) for line, row in csv_rows(path, required=TICKS)]
    if not cells:
        return None, "none recorded"
    ticks = pd.DataFrame([values for _, values in cells])
    span = start_of_ticks(ticks, rows)
    if span is None:
        return None, "left out: its prompt tokens per tick fit the requests' first tokens at no time, so nothing says when its ticks were"
    start = clock.seconds((span[0] + span[1]) / 2)
    assert start is not None
    words = f"1 row per tick; second 0 of its clock found to +-{(span[1] - span[0]) / 2 * 1e3:.1f} ms from its prompt tokens per tick"
    series = {new: ticks[old] for old, new in GAUGES.items()}
    series |= {"prompt_tokens_per_second": ticks["prompt_throughput"], "generation_tokens_per_second": ticks["gen_throughput"]}
    if (ticks["kv_cache_pct"] == 0).all() and (ticks["running"] > 0).any():
        words += "; kv_cache_pct left out: 0.0 in every tick though requests ran, so it was not recorded"
    else:
        series["kv_cache_usage_perc"] = ticks["kv_cache_pct"] / 100
    frames = [pd.DataFrame({"time": start + ticks["t"], "name": name, "value": values}) for name, values in series.items()]
    return pd.concat(frames, ignore_index=True), words
