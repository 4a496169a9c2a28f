"""Runs inside vLLM's own environment: its scheduler, each step written to a file. Nothing of it is changed.

`--scheduler-cls vllm_steps_scheduler.LoggedScheduler` with this folder on PYTHONPATH and PLUMBLINE_STEPS naming the file. It follows
Scheduler, not AsyncScheduler: asynchronous scheduling is switched off, as vLLM's CPU build has it anyway.

The file: JSON lines; times in seconds of time.monotonic(), which all processes of a machine share.
- {"request": id, "arrived": when the API server took it up, "time": when the scheduler got it, "prompt", "output": tokens}
- {"step": when its scheduling began, "end": when its tokens were handed back, "cpu": seconds that this thread computed in between, "ids":
  who is in it, in order, "tokens": of each, "computed": tokens of each in the KV cache before, "preempted": ids}
"""

import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler  # type: ignore[import-not-found]

LINES_AT_ONCE = 64  # written together: what a write costs is not in every step


class LoggedScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's Scheduler, which also writes down what it does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._file = Path(os.environ["PLUMBLINE_STEPS"]).open("a", encoding="utf-8")  # noqa: SIM115 (open as long as the process lives)
        self._lines: list[dict[str, Any]] = []
        self._under_way: list[dict[str, Any]] = []
        atexit.register(self._write)

    def add_request(self, request: Any) -> None:
        """See Scheduler."""
        now = time.monotonic()
        arrived = request.arrival_time - time.time() + now
        sizes = {"prompt": request.num_prompt_tokens, "output": request.max_tokens}
        self._lines.append({"request": request.request_id, "arrived": arrived, "time": now, **sizes})
        super().add_request(request)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """See Scheduler."""
        begin, cpu = time.monotonic(), time.thread_time()
        output = super().schedule(*args, **kwargs)
        tokens = output.num_scheduled_tokens
        computed = [self.requests[i].num_computed_tokens - n for i, n in tokens.items()]  # it has counted the step's own already
        step = {"step": begin, "cpu": cpu, "ids": list(tokens), "tokens": list(tokens.values()), "computed": computed}
        self._under_way.append(step | {"preempted": sorted(output.preempted_req_ids or ())})
        return output

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        """See Scheduler."""
        outputs = super().update_from_output(*args, **kwargs)
        step = self._under_way.pop(0)
        if step["ids"]:
            self._lines.append(step | {"end": time.monotonic(), "cpu": time.thread_time() - step["cpu"]})
        if len(self._lines) >= LINES_AT_ONCE or not self.running:
            self._write()
        return outputs

    def _write(self) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()
