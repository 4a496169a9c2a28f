"""What SGLang's `bench_serving --output-details` appends to its JSONL, the client in Python or in Rust: a line for each benchmark.

It never has the times of sending, so only loads that fix them can be taken (start_times.py). Where the server is SGLang's, server_info
has its version, model and limits.
"""

from pathlib import Path
from typing import Any

from results.recordings.about import Given
from results.recordings.recording import Recording
from results.recordings.server_info import sglang_limits
from results.recordings.tools.client_arrays import client_result
from results.recordings.tools.content import has_names, head
from results.recordings.tools.tool_file import ToolFile, recording_of

NAME = "SGLang's bench_serving (JSONL with --output-details)"
NATIVE = ("sglang", "sglang-native")  # backends whose client spreads a chunk's time over its tokens


def is_sglang_bench(path: Path) -> bool:
    """Whether the file begins as one of this form."""
    return has_names(head(path), "backend", "dataset_name", "sharegpt_output_len", "random_range_ratio")


def read_sglang_bench(path: Path, given: Given) -> Recording:
    """Read the form. Raises RecordingError, TraceError."""
    told = client_result(path, given.benchmark, named_by="dataset_name", option="--output-details")
    result, assumed = told.result, dict(told.assumed)
    if result["backend"] in NATIVE:
        assumed["token_times"] = "the client spreads the time of a chunk evenly over its tokens"
    file = ToolFile(
        path=path,
        tool=f"SGLang's bench_serving ({'Rust' if 'protocol' in result else 'Python'} client)",
        requests=told.requests,
        said={"rate": told.rate, "workload": result["dataset_name"], **_server(result.get("server_info"))},
        closed=told.closed,
        load=told.load,
        assumed=assumed,
    )
    return recording_of(file, given)


def _server(info: Any) -> dict[str, Any]:
    """What an SGLang server said of itself at /server_info; empty where the client got no answer."""
    if not isinstance(info, dict) or "model_path" not in info:
        return {}
    states = info.get("internal_states") or [{}]
    kv_tokens = info.get("max_total_num_tokens") or states[0].get("max_total_num_tokens")
    return {
        "system": "sglang",
        "version": info.get("version"),
        "model": info["model_path"],
        "limits": sglang_limits({**info, "max_total_num_tokens": kv_tokens}),
    }
