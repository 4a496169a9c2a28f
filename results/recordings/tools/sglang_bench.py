"""What SGLang's `bench_serving --output-details` appends to its JSONL, the client in Python or in Rust: a line for each benchmark.

It never has the times of sending, so only loads that fix them can be taken (start_times.py). Where the server is SGLang's, server_info
has its version, model and limits.
"""

from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording
from results.recordings.tools.client_arrays import arrays, in_flight, load_of, rate_of, timed
from results.recordings.tools.content import has_names, head, mapping, objects, one_of
from results.recordings.tools.tool_file import ToolFile, recording_of

NAME = "SGLang's bench_serving (JSONL with --output-details)"
NATIVE = ("sglang", "sglang-native")  # backends whose client spreads a chunk's time over its tokens


def is_sglang_bench(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    return has_names(head(path), "backend", "dataset_name", "sharegpt_output_len", "random_range_ratio")


def read_sglang_bench(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    results = [mapping(str(path), value) for value in objects(path)]
    names = [f"{r.get('dataset_name')}, rate {r.get('request_rate')}, at most {r.get('max_concurrency')} in flight" for r in results]
    result = one_of(path, results, names, given.benchmark)
    found = arrays(str(path), result, option="--output-details")
    rate, at_most = rate_of(str(path), result), in_flight(str(path), result)
    closed, load = load_of(rate, at_most)
    requests, _ = timed(str(path), result, found)
    assumed = {"sent": f"the file has no start times; the load fixes them: {load}"}
    if result["backend"] in NATIVE:
        assumed["token_times"] = "the client spreads the time of a chunk evenly over its tokens"
    told = ToolFile(
        path=path,
        tool=f"SGLang's bench_serving ({'Rust' if 'protocol' in result else 'Python'} client)",
        requests=requests,
        said={"rate": rate if rate != float("inf") else None, "workload": result["dataset_name"], **_server(result.get("server_info"))},
        closed=closed,
        load=load,
        assumed=assumed,
    )
    return recording_of(told, given)


def _server(info: Any) -> dict[str, Any]:
    """What an SGLang server said of itself at /server_info; empty where the client got no answer."""
    if not isinstance(info, dict) or "model_path" not in info:
        return {}
    chunk, no_cache = info.get("chunked_prefill_size"), info.get("disable_radix_cache")
    states = info.get("internal_states") or [{}]
    limits = {
        "kv_tokens": info.get("max_total_num_tokens") or states[0].get("max_total_num_tokens"),
        "block_size": info.get("page_size"),
        "max_num_seqs": info.get("max_running_requests"),
        "max_num_batched_tokens": chunk if chunk is not None and chunk > 0 else info.get("max_prefill_tokens"),
        "max_model_len": info.get("context_length"),
        "chunked_prefill": None if chunk is None else chunk > 0,
        "prefix_caching": None if no_cache is None else not no_cache,
        "tensor_parallel": info.get("tp_size"),
    }
    return {
        "system": "sglang",
        "version": info.get("version"),
        "model": info["model_path"],
        "limits": {name: value for name, value in limits.items() if value is not None},
    }
