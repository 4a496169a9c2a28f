# mypy: disable-error-code="import-not-found"
"""Drives vLLM's own engine cores of data-parallel ranks (DPEngineCoreProc) without a model. Run by the engine's interpreter.

    .envs/vllm_cpu/bin/python drive_dp_core.py < cases.json > rounds.json

In: a list of cases as drive_vllm.py has them, with `ranks` and each request's `rank`; out: of each case and rank, what each of its forward
passes computed ([request, tokens] pairs, none: a dummy batch), and when all ranks had computed it. Each rank's busy loop is vLLM's, in a
thread of its own, and they agree by vLLM's all-reduce. Ours are the clock, the step times, the tokens, and the message by which the front
end wakes the other ranks when a request comes to one.
"""

import json
import os
import queue
import socket
import sys
import tempfile
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
sys.path.insert(0, str(Path(__file__).parent.parent / "scheduling"))

import drive_vllm as scheduling
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.v1.core.kv_cache_utils import init_none_hash
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.engine import EngineCoreRequestType
from vllm.v1.engine.core import DPEngineCoreProc, EngineShutdownState

LONG = 60  # s of real time without any progress: the driver or an engine is stuck


class World:
    """The device of all ranks, which computes round by round, and what has not arrived yet."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.limits, self.seconds, self.ranks = case["limits"], case["step_seconds"], case["ranks"]
        self.changed = threading.Condition()
        self.issued: list[dict[int, tuple[float, int]]] = []  # of each round, by rank: when it was issued (s), and its tokens
        self.ends: list[float] = []  # s; of each round that all ranks have issued
        self.arriving = [
            deque((row["arrival"], i, row) for i, row in enumerate(case["requests"]) if row["rank"] == r) for r in range(self.ranks)
        ]
        self.all: list[Rank] = []
        self.idle: set[int] = set()  # ranks that wait for a message

    def issue(self, rank: int, number: int, now: float, tokens: int) -> None:
        """A rank has handed its part of a round to its device."""
        with self.changed:
            if number == len(self.issued):
                self.issued.append({})
            self.issued[number][rank] = (now, tokens)
            if len(self.issued[number]) == self.ranks:
                start = max([*(time for time, _ in self.issued[number].values()), *self.ends[-1:]])
                longest = max(self.seconds["fixed"] + self.seconds["per_token"] * max(1, n) for _, n in self.issued[number].values())
                self.ends.append(start + longest)
                self.changed.notify_all()

    def ended(self, number: int) -> float:
        """When a round has ended; waits until that is known."""
        with self.changed:
            if not self.changed.wait_for(lambda: number < len(self.ends), LONG):
                raise TimeoutError(f"round {number} was never issued by all ranks")
            return self.ends[number]

    def wait_for_a_message(self, rank: "Rank") -> None:
        """A rank has nothing to do. When all ranks have not, the next request arrives, or all is over."""
        with self.changed:
            if rank.messages:
                return
            self.idle.add(rank.number)
            if len(self.idle) == self.ranks:
                self._next_arrival()
            if not self.changed.wait_for(lambda: rank.number not in self.idle, LONG):
                raise TimeoutError("no message came")

    def wake_the_others(self, woken_by: "Rank", now: float) -> None:
        """A request has come to a rank while no wave runs."""
        with self.changed:
            for rank in self.all:
                if rank is not woken_by:
                    rank.messages.append((EngineCoreRequestType.START_DP_WAVE, (woken_by.core.current_wave, woken_by.number)))
                    if rank.number in self.idle:
                        rank.now = max(rank.now, now)
            self.idle.clear()
            self.changed.notify_all()

    def _next_arrival(self) -> None:
        waiting = [(arriving[0][0], number) for number, arriving in enumerate(self.arriving) if arriving]
        if not waiting:
            for rank in self.all:
                rank.core.shutdown_state = EngineShutdownState.SHUTTING_DOWN
            self.idle.clear()
        else:
            arrival, receiver = min(waiting)
            self.all[receiver].now = max(self.all[receiver].now, arrival)
            self.idle.remove(receiver)
        self.changed.notify_all()


class Rank:
    """One rank: its clock, and what vLLM's engine core asks of its input queue and of its executor."""

    is_sleeping = False

    def __init__(self, world: World, number: int, core: DPEngineCoreProc) -> None:
        self.world, self.number, self.core = world, number, core
        self.now = 0.0
        self.messages: deque[tuple[Any, Any]] = deque()
        self.passes: list[list[list[int]]] = []
        self.under_way: deque[tuple[int, Any, set[str]]] = deque()
        self.model = scheduling.Model([[] for _ in range(1 << 12)])

    # its input queue
    def empty(self) -> bool:
        arriving = self.world.arriving[self.number]
        while arriving and arriving[0][0] <= self.now:
            _, index, row = arriving.popleft()
            request = scheduling.make_request(index, row, self.world.limits)
            self.messages.append((EngineCoreRequestType.ADD, (request, self.core.current_wave)))
            if not self.core.engines_running:
                self.world.wake_the_others(self, self.now)
        return not self.messages

    def get_nowait(self) -> tuple[Any, Any]:
        if self.empty():
            raise queue.Empty
        return self.messages.popleft()

    def get(self, block: bool) -> tuple[Any, Any]:
        if block and self.empty():
            self.world.wait_for_a_message(self)
        return self.get_nowait()

    # its executor
    def execute_model(self, output: Any, non_block: bool) -> Any:
        scheduler = self.core.scheduler
        tokens = [[int(i), n] for i, n in output.num_scheduled_tokens.items()]
        chunks = {i for i in output.num_scheduled_tokens if scheduler.requests[i].is_prefill_chunk}
        number = -1
        if tokens:
            number = self._issue(tokens)
        self.under_way.append((number, output, chunks))
        return Later(self._sampled if not tokens else lambda: None)

    def sample_tokens(self, grammar: Any, non_block: bool = False) -> Any:
        return Later(self._sampled) if non_block else self._sampled()

    def execute_dummy_batch(self) -> None:
        self.now = max(self.now, self.world.ended(self._issue([])))

    def _sampled(self) -> Any:
        number, output, chunks = self.under_way.popleft()
        if number >= 0:
            self.now = max(self.now, self.world.ended(number))
        return self.model.sampled(self.core.scheduler, output, chunks)

    def _issue(self, tokens: list[list[int]]) -> int:
        self.passes.append(tokens)
        self.world.issue(self.number, len(self.passes) - 1, self.now, sum(n for _, n in tokens))
        return len(self.passes) - 1


class Later(Future):  # type: ignore[type-arg]
    """A result that is computed when it is asked for."""

    def __init__(self, compute: Any) -> None:
        super().__init__()
        self._compute = compute

    def result(self, timeout: float | None = None) -> Any:
        return self._compute()


def make_core(world: World, number: int, folder: str) -> DPEngineCoreProc:
    """vLLM's engine core of a rank, without its processes and sockets."""
    core = DPEngineCoreProc.__new__(DPEngineCoreProc)
    core.scheduler = scheduling.make_scheduler(folder, world.limits)
    core.scheduler._pause_state = PauseState.UNPAUSED  # as it is made
    core.model_executor = core.input_queue = Rank(world, number, core)
    core.output_queue, core.aborts_queue = queue.Queue(), queue.Queue()
    core.vllm_config = SimpleNamespace(shutdown_timeout=0, observability_config=SimpleNamespace(enable_logging_iteration_details=False))
    core._idle_state_callbacks, core._weight_version, core.eep_scaling_state = [], None, None
    core.log_stats = core.publish_dp_lb_stats = core.enable_fault_tolerance = core.check_for_draft_tokens = False
    core.is_mm_encoder_only = core.is_pooling_model = False
    core.process_input_queue_block = True
    core.shutdown_state = EngineShutdownState.RUNNING
    core.has_coordinator, core.engine_index, core.dp_rank = True, number, number
    core.engines_running = core.pending_pause = core.ignore_start_dp_wave = False
    core.step_counter = core.current_wave = 0
    core.prefill_schedule_interval, core.dp_sync_interval = 1, world.limits["dp_sync_interval"]
    core.batch_queue_size = world.limits["in_flight"]
    core.async_scheduling = core.batch_queue_size > 1
    core.batch_queue = deque(maxlen=core.batch_queue_size) if core.async_scheduling else None
    core.step_fn = core.step_with_batch_queue if core.async_scheduling else core.step
    core.mm_receiver_cache = core.structured_output_manager = None
    return core


def serve(core: DPEngineCoreProc, port: int, ranks: int, failures: list[BaseException]) -> None:
    """One rank's busy loop, to its end."""
    try:
        core.dp_group = stateless_init_torch_distributed_process_group("127.0.0.1", port, core.dp_rank, ranks, "gloo")
        core.run_busy_loop()
    except SystemExit:
        pass
    except BaseException as error:  # its thread's: told by the main one
        failures.append(error)


def drive(folder: str, case: dict[str, Any]) -> list[list[Any]]:
    """One case."""
    world = World(case)
    cores = [make_core(world, number, folder) for number in range(world.ranks)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    failures: list[BaseException] = []
    world.all = [core.model_executor for core in cores]
    threads = [threading.Thread(target=serve, args=(core, port, world.ranks, failures), daemon=True) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    if failures or any(thread.is_alive() for thread in threads):
        raise failures[0] if failures else TimeoutError("a rank does not end")
    return [[passes, end] for *passes, end in zip(*(core.model_executor.passes for core in cores), world.ends, strict=True)]


def main() -> None:
    """Cases on standard input, rounds on standard output."""
    cases = json.load(sys.stdin)
    out = os.fdopen(
        os.dup(sys.stdout.fileno()), "w"
    )  # vLLM closes descriptor 1 while gloo connects, which two threads at once leave closed
    init_none_hash(scheduling.HASH)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(scheduling.MODEL))
        answers = [drive(folder, case) for case in cases]
    with out:
        json.dump(answers, out)


if __name__ == "__main__":
    main()
