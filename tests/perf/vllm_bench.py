"""`vllm bench serve` with its own schedule made visible: run by the engine environment's Python, which has nothing of ours.

usage: vllm_bench.py MARKS.json <arguments of `vllm bench serve`>. MARKS.json gets `epoch` (time.monotonic() at the schedule's second 0) and
`cpu_s` (CPU seconds of this process from there to the last answer).
"""

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vllm.benchmarks import serve  # type: ignore[import-not-found]


def main() -> None:
    """Parse as vLLM does, run, write the marks."""
    marks: dict[str, float] = {}
    get_request, calculate_metrics = serve.get_request, serve.calculate_metrics

    async def marked_get_request(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        marks.update(epoch=time.monotonic(), cpu_s=-time.process_time())
        async for request in get_request(*args, **kwargs):
            yield request

    def marked_calculate_metrics(*args: Any, **kwargs: Any) -> Any:
        marks["cpu_s"] += time.process_time()
        return calculate_metrics(*args, **kwargs)

    serve.get_request, serve.calculate_metrics = marked_get_request, marked_calculate_metrics
    parser = argparse.ArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args(sys.argv[2:]))
    Path(sys.argv[1]).write_text(json.dumps(marks))


if __name__ == "__main__":
    main()
