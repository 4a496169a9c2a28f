"""An API server that takes the CPU time it is told to: streams of null tokens over real HTTP, in a process of its own. A word is a token.

`python -m tests.stand_ins.burning_server PORT REQUEST PROMPT_TOKEN STEP TOKEN` (s of CPU). Requests in flight get their tokens together.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from harness.engines import server
from results.project.folder import ROOT

PERIOD = 0.01  # s between two tokens at least


def burn(seconds: float) -> None:
    """Take the CPU for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Burning:
    """The server."""

    def __init__(self, request: float, prompt_token: float, step: float, token: float) -> None:
        self.request, self.prompt_token, self.step, self.token = request, prompt_token, step, token
        self.waiting: list[asyncio.Future[None]] = []

    async def answer(self, asked: web.Request) -> web.StreamResponse:
        body = await asked.json()
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        tokens = len(prompt.split() if isinstance(prompt, str) else prompt)
        burn(self.request + self.prompt_token * tokens)
        response = web.StreamResponse()
        await response.prepare(asked)
        for _ in range(body["max_tokens"]):
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
            burn(self.token)
            await response.write(b'data: {"choices": [{"text": "x"}]}\n\n')
        usage = {"prompt_tokens": tokens, "completion_tokens": body["max_tokens"]}
        await response.write(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"choices": [], "usage": usage}).encode())
        return response

    async def steps(self, _: web.Application) -> None:
        asyncio.get_running_loop().create_task(self._steps()).add_done_callback(lambda task: task.exception())

    async def _steps(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            waiting, self.waiting = self.waiting, []
            if waiting:
                burn(self.step)
            for turn in waiting:
                turn.set_result(None)


@contextmanager
def burning_server(request: float, prompt_token: float, step: float, token: float) -> Iterator[tuple[str, int]]:
    """Run it; yields its URL and its process id."""
    port = server.free_port()
    words = [sys.executable, "-m", "tests.stand_ins.burning_server", *map(str, (port, request, prompt_token, step, token))]
    with subprocess.Popen(words, cwd=ROOT) as process:
        try:
            while True:
                try:
                    server.fetch(f"http://{server.HOST}:{port}/", timeout=5.0)
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.05)
            yield f"http://{server.HOST}:{port}", process.pid
        finally:
            process.terminate()


def main() -> None:
    port, *costs = sys.argv[1:]
    burning = Burning(*map(float, costs))
    app = web.Application()
    app.add_routes([web.post("/v1/completions", burning.answer), web.post("/v1/chat/completions", burning.answer)])
    app.on_startup.append(burning.steps)
    web.run_app(app, host=server.HOST, port=int(port), print=None)


if __name__ == "__main__":
    main()
