"""A server whose step times are known: real SSE over a real socket, continuous batching with chunked prefill, one linear law.

The profiler and the capacity measurement are held to this truth. `toy_engine(Law(...))` runs it as a process of its own.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aiohttp import web

from harness.engine import ComputesOn, Endpoint
from harness.engines import server, step_log
from results.record import EngineLimits


@dataclass(frozen=True, kw_only=True)
class Law:
    """step(new, context, batch) = base + per_token * new + per_context * context + per_sequence * batch, in seconds.

    new: tokens computed in the step, context: tokens in the KV cache before it, batch: sequences in it, summed over the whole step.
    per_recomputed: seconds more per token of context that belongs to a prompt, not to a sequence that decodes (as if it were recomputed).
    frontend: seconds per request before the scheduler sees it. parse: seconds per prompt token before that, of refused prompts, too.
    prefix_caching: prompts that were served once are found again, by blocks. refuse: answer every request with an error inside HTTP 200.
    after_refusal: what all step times are multiplied by from the first prompt on that is too long (a profile sends some halfway).
    still_at: with this request, counted from 1, the process that asks stands still, once, for still_for seconds (as on a machine that has
    no time for it).
    paces: what all step times are multiplied by, another one after each `paced_for` requests, round and round (as on a machine with noise).
    """

    base: float = 0.020
    per_token: float = 20e-6
    per_context: float = 2e-6
    per_sequence: float = 0.001
    per_recomputed: float = 0.0
    frontend: float = 0.010
    parse: float = 0.0
    max_num_seqs: int = 8
    max_num_batched_tokens: int = 512
    max_model_len: int = 2048
    prefix_caching: bool = False
    refuse: bool = False
    after_refusal: float = 1.0
    still_at: int | None = None
    still_for: float = 6.0
    paces: tuple[float, ...] = ()
    paced_for: int = 1

    def step(self, *, new: int, context: float, batch: int, recomputed: float = 0.0) -> float:
        """Seconds of one step."""
        work = self.per_token * new + self.per_context * context + self.per_recomputed * recomputed
        return self.base + work + self.per_sequence * batch

    def capacity(self, lengths: list[tuple[int, int]]) -> float:
        """Requests/s at saturation for (input, output) lengths, every prompt within one step: all slots are always taken, a request
        holds one for `output` steps (the first ends its prefill), and the law is linear, so that means are enough.
        """
        count = len(lengths)
        slot_steps = sum(out for _, out in lengths) / count
        tokens = sum(prompt + out - 1 for prompt, out in lengths) / count
        # step j = 1 .. out - 1 after the prefill finds prompt + j - 1 tokens in the cache
        context = sum((out - 1) * prompt + (out - 1) * (out - 2) / 2 for prompt, out in lengths) / count
        per_step = self.max_num_seqs / slot_steps  # requests that end in a step
        return per_step / (
            self.base + self.per_sequence * self.max_num_seqs + per_step * (self.per_token * tokens + self.per_context * context)
        )


BLOCK = 16  # tokens


@dataclass(eq=False)
class Sequence:
    """A request inside the engine: `computed` of its prompt tokens and all its generated tokens but the newest are in the cache."""

    prompt: int
    output: int
    tokens: asyncio.Queue[int]
    computed: int = 0
    generated: int = 0
    gone: bool = False


class Toy:
    """The engine: `waiting` and `running` sequences, and a loop of steps, each as long as the law says."""

    def __init__(self, law: Law, client: int | None = None) -> None:
        self.law = law
        self.client = client  # the process that asks
        self.asked = 0  # requests so far
        self.pace = 1.0  # of all step times
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.work = asyncio.Event()
        self.cached: set[tuple[int, ...]] = set()  # beginnings of prompts, whole blocks

    def remember(self, prompt: list[int]) -> int:
        """Tokens of the prompt that the prefix cache holds, never all of them; from now on it holds the whole prompt."""
        if not self.law.prefix_caching:
            return 0
        begins = [tuple(prompt[:n]) for n in range(BLOCK, len(prompt) + 1, BLOCK)]
        found = sum(begin in self.cached for begin in begins[: (len(prompt) - 1) // BLOCK])
        self.cached.update(begins)
        return found * BLOCK

    def schedule(self) -> dict[Sequence, int]:
        """New tokens per sequence: the running ones first, then waiting ones while slots and the token budget last."""
        budget, step = self.law.max_num_batched_tokens, {}
        for sequence in self.running:
            step[sequence] = min(budget, max(1, sequence.prompt - sequence.computed))
            budget -= step[sequence]
        while self.waiting and budget and len(self.running) < self.law.max_num_seqs:
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            step[sequence] = min(budget, sequence.prompt - sequence.computed)
            budget -= step[sequence]
        return {sequence: new for sequence, new in step.items() if new}

    async def run(self) -> None:
        """Step for ever. A step begins when the one before it should have ended, so that lateness of timers does not add up."""
        clock = asyncio.get_running_loop().time
        end = clock()
        while True:
            if not (self.running or self.waiting):
                self.work.clear()
                await self.work.wait()
                end = clock()
            step = self.schedule()
            end += self.pace * self.law.step(
                new=sum(step.values()),
                context=sum(s.computed + max(0, s.generated - 1) for s in step),
                batch=len(step),
                recomputed=sum(s.computed for s in step if not s.generated),
            )
            await asyncio.sleep(end - clock())
            for sequence, new in step.items():
                self.advance(sequence, new)
            self.running = [s for s in self.running if s.generated < s.output and not s.gone]

    def advance(self, sequence: Sequence, new: int) -> None:
        sequence.computed = min(sequence.prompt, sequence.computed + new)
        if sequence.computed == sequence.prompt:
            sequence.generated += 1
            sequence.tokens.put_nowait(sequence.generated)

    async def stand_still(self) -> None:
        """Stop the process that asks for a while."""
        assert self.client is not None
        os.kill(self.client, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.law.still_for)
        finally:
            os.kill(self.client, signal.SIGCONT)

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "toy", "owned_by": "toy", "max_model_len": self.law.max_model_len}]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.law.paces:
            self.pace = self.law.paces[(self.asked - 1) // self.law.paced_for % len(self.law.paces)]
        if self.asked == self.law.still_at:
            await self.stand_still()
        body = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.law.refuse:
            await response.write(event({"error": {"message": "out of luck", "code": 500}}))
            return response
        await asyncio.sleep(self.law.parse * len(body["prompt"]))
        if len(body["prompt"]) + body["max_tokens"] > self.law.max_model_len:
            self.pace = self.law.after_refusal
            await response.write(event({"error": {"message": "longer than max_model_len", "code": 400}}))
            return response
        await asyncio.sleep(self.law.frontend)
        cached = self.remember(body["prompt"])
        sequence = Sequence(prompt=len(body["prompt"]), output=body["max_tokens"], tokens=asyncio.Queue(), computed=cached)
        self.waiting.append(sequence)
        self.work.set()
        try:
            for _ in range(sequence.output):
                index = await sequence.tokens.get()
                reason = "length" if index == sequence.output else None
                usage = {"prompt_tokens": sequence.prompt, "completion_tokens": index}
                counts = {"usage": usage} if body["stream_options"].get("continuous_usage_stats") else {}
                await response.write(event({"choices": [{"index": 0, "text": f"t{index} ", "finish_reason": reason}], **counts}))
        finally:
            sequence.gone = True
        final = {"prompt_tokens": sequence.prompt, "completion_tokens": sequence.output}
        whole = {**final, "prompt_tokens_details": {"cached_tokens": cached}}
        await response.write(event({"choices": [], "usage": whole}) + b"data: [DONE]\n\n")
        return response


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def serve(law: Law, port: int, client: int | None = None) -> None:
    toy = Toy(law, client)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/completions", toy.completions)
    app.router.add_get("/v1/models", toy.models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    assert runner.addresses
    print(runner.addresses[0][1], flush=True)
    await toy.run()


@contextmanager
def toy_engine(law: Law) -> Iterator[Endpoint]:
    """Run the toy as a process, yield its endpoint, end the process."""
    command = [sys.executable, "-m", "tests.stand_ins.toy_engine", json.dumps(dataclasses.asdict(law))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield endpoint(law, int(process.stdout.readline()))
        finally:
            process.kill()


def endpoint(law: Law, port: int) -> Endpoint:
    """The toy at `port`, its limits as the law has them."""
    limits = EngineLimits(
        kv_tokens=law.max_num_seqs * law.max_model_len,
        block_size=BLOCK,
        max_num_seqs=law.max_num_seqs,
        max_num_batched_tokens=law.max_num_batched_tokens,
        max_model_len=law.max_model_len,
        chunked_prefill=True,
        prefix_caching=law.prefix_caching,
    )
    return Endpoint(url=f"http://127.0.0.1:{port}", served_model="toy", system="toy", version="1", limits=limits)


@dataclass(frozen=True, kw_only=True)
class ToyServer:
    """The toy as an engine that the bench starts and stops itself (tests/conf/engine/toy.yaml)."""

    law: Law
    system: str = "toy"
    environment: str | None = None
    computes_on: ComputesOn = "cpu"

    @contextmanager
    def serve(self, model_dir: Path, log: Path) -> Iterator[Endpoint]:
        port = server.free_port()
        command = [sys.executable, "-m", "tests.stand_ins.toy_engine", json.dumps(dataclasses.asdict(self.law))]
        command += ["--port", str(port), "--client", str(os.getpid())]
        ready = f"http://127.0.0.1:{port}/v1/models"
        with server.child(command, name="toy", env=os.environ, log=log, ready_url=ready, deadline=60):
            yield endpoint(self.law, port)

    def reset_cache(self, endpoint: Endpoint) -> None:
        pass  # it has none

    def sample(self, metrics_text: str) -> Mapping[str, float]:
        return {}

    def steps(self, log: Path, epoch: float) -> pd.DataFrame:
        return step_log.nothing()


def judge(right: bool, what: str) -> None:
    """Assert that measured times are right; where they are not and the machine is overloaded, skip: they can't be judged there."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if not right and load > 2 * cores:
        pytest.skip(f"times can't be judged at a load average of {load:.1f} on {cores} cores; stop what else runs. {what}")
    assert right, what


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("law", type=json.loads)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--client", type=int)
    asked = parser.parse_args()
    asyncio.run(serve(Law(**asked.law), asked.port, asked.client))
