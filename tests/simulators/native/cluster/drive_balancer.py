# mypy: disable-error-code="import-not-found"
"""Drives the load balancer of vLLM's front end without engines. Run by the engine's interpreter.

    .envs/vllm_cpu/bin/python drive_balancer.py < cases.json > chosen.json

In: a list of [engines, events]; an event has reported `loads`, as many requests as `chosen` has entries, and the engines of requests that
are `done` then. Out: the engines that vLLM chose, a list for each event.
"""

import json
import os
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from vllm.v1.engine.core_client import DPLBAsyncMPClient


def drive(engines: int, events: list[dict[str, Any]]) -> list[list[int]]:
    """The choices in one history."""
    client = DPLBAsyncMPClient.__new__(DPLBAsyncMPClient)  # without its sockets
    client.client_count, client.eng_start_index = 1, 0
    client.core_engines = list(range(engines))
    client.reqs_in_flight, client.engine_inflight = {}, Counter()
    chosen: list[list[int]] = []
    number = 0
    for event in events:
        client.lb_engines = [list(load) for load in event["loads"]]
        chosen.append([])
        for _ in event["chosen"]:
            request = SimpleNamespace(request_id=str(number), data_parallel_rank=None, pooling_params=None)
            chosen[-1].append(client.get_core_engine_for_request(request))
            number += 1
        for engine in event["done"]:
            client.engine_inflight[engine] -= 1
    return chosen


if __name__ == "__main__":
    json.dump([drive(*case) for case in json.load(sys.stdin)], sys.stdout)
