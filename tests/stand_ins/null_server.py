"""A server of null tokens: real HTTP/1.1 and SSE over a real socket, at a set pace, with faults on request. For tests and benchmarks.

`python -m tests.stand_ins.null_server --port 8123 --ttft 0.02 --itl 0.01` answers /v1/completions, /v1/chat/completions and /v1/responses
with max_tokens tokens: the first after `ttft` s, then one every `itl` s (in steps of 1 ms). Of a text a word is a token, and some are
counted beyond the words. A request whose `model` names a fault gets that fault (see FAULTS); others get `--fault`, or a 404 where
`--models` names those that there are.
`--log FILE` writes, when the server is ended with SIGTERM, one JSON line per request: its first prompt token (or its `x-request-id`, where
that is a number), time.monotonic() at which its first bytes came, and at which its first event was written, its connection's number, and
when its last token was written.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import httptools
import orjson
import uvloop

from results.project.folder import ROOT
from tests.stand_ins.null_stream import FAULTS, HEAD, counted_tokens, writes

STEP = 0.001  # s
PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions", "responses": "/v1/responses"}  # ends of URLs, by API


class Wheel:
    """Calls due in steps of 1 ms, all of one step together: far cheaper than a timer per token."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Stream]] = defaultdict(list)
        self._turn = 0
        self._running = False

    def add(self, stream: "Stream", delay: float) -> None:
        """Call stream.step() after `delay` s."""
        if not self._running:
            self._running, self._turn = True, int(time.monotonic() / STEP)
            self._loop.call_later(STEP, self._tick)
        self._slots[int((time.monotonic() + delay) / STEP) + 1].append(stream)

    def again(self, stream: "Stream", delay: float) -> None:
        """Call it `delay` s after the step it is called from."""
        self._slots[self._turn + max(1, round(delay / STEP))].append(stream)

    def _tick(self) -> None:
        now = int(time.monotonic() / STEP)
        while self._turn < now:
            self._turn += 1
            for stream in self._slots.pop(self._turn, ()):
                stream.step()
        self._running = bool(self._slots)
        if self._running:
            self._loop.call_later(STEP, self._tick)


class Server:
    """What all connections share."""

    def __init__(self, options: argparse.Namespace, loop: asyncio.AbstractEventLoop) -> None:
        self.options, self.wheel = options, Wheel(loop)
        self.log: list[list[float]] = []
        self.connections = 0


class Stream(asyncio.Protocol):
    """One connection, and the answer it is sending."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._url = b""
        self._received = self._now = 0.0
        self._pending: list[bytes] = []
        self._tag = -1
        self._fault = "none"
        self._entry = [0.0]  # of the log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._fd = transport.get_extra_info("socket").fileno()
        self._number = self._server.connections
        self._server.connections += 1

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pending = []

    # httptools
    def on_message_begin(self) -> None:
        self._received, self._body, self._url, self._key, self._org, self._tag = self._now, [], b"", b"", b"", -1

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"Authorization":
            self._key = value
        elif name == b"X-Org":
            self._org = value
        elif name == b"x-request-id" and value.isdigit():
            self._tag = int(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.decode()
        if path.endswith("/v1/models"):
            self._plain(200, {"object": "list", "data": [{"id": "null", "object": "model", "max_model_len": 4096}]})
        elif api := next((api for api, end in PATHS.items() if path.endswith(end)), None):
            self._complete(orjson.loads(b"".join(self._body)), api)
        elif path.endswith(("/health", "/reset_prefix_cache", "/flush_cache")):
            self._plain(200, {})
        else:
            self._plain(404, {"detail": "Not Found"})

    def _complete(self, body: dict[str, Any], api: str) -> None:
        options = self._server.options
        fault = self._fault = body["model"] if body["model"] in FAULTS else options.fault
        prompt = body.pop("messages")[0]["content"] if api == "chat" else body.pop("prompt" if api == "completions" else "input")
        counted = bool(body.get("stream_options", {}).get("continuous_usage_stats"))
        if self._tag < 0 and isinstance(prompt[0], int):
            self._tag = prompt[0]
        if fault == "silent":
            return
        if fault == "garbage":
            self._transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            return
        if fault == "http_500":
            self._plain(500, {"object": "error", "message": "the engine is dead", "code": 500})
            return
        if refused := self._refusal(body, fault):
            self._plain(*refused)
            return
        if fault == "plain_json":
            self._plain(200, {"choices": [{"text": "all of it"}]})
            return
        inputs = counted_tokens(len(prompt.split()), api, fault) if isinstance(prompt, str) else len(prompt)
        outputs = options.tokens or body["max_output_tokens" if api == "responses" else "max_tokens"]
        events, last = writes(inputs, outputs, counted, fault, api)
        self._write(HEAD % (b"connection: close\r\n" if fault == "close" else b""))
        self._pending = [*reversed(last), *reversed(events)]
        self._streamed = len(events)
        self._first = True
        self._server.wheel.add(self, options.ttft)

    def _refusal(self, body: dict[str, Any], fault: str) -> tuple[int, dict[str, Any]] | None:
        models = self._server.options.models
        if models and body["model"] not in (*models.split(","), *FAULTS):
            return 404, {"error": f"the model {body['model']} does not exist"}
        if fault == "needs_key" and self._key != b"Bearer secret":
            return 401, {"error": "no API key"}
        if fault == "needs_header" and self._org != b"abc":
            return 401, {"error": "no organisation"}
        return (400, body) if fault == "echo" else None

    def step(self) -> None:
        """Write the next token; after the last one, the end of the response at once."""
        if not self._pending or self._transport.is_closing():
            self._break()
            return
        data = self._pending.pop()
        if data and self._first:
            self._first = False
            now = time.monotonic()
            self._entry = [self._tag, self._received, now, self._number, now]
            self._server.log.append(self._entry)
        self._streamed -= 1
        if self._fault == "fragments":
            self._write_fragments(data, len(data) // 3 + 1)
            return
        if self._streamed == 0 and len(self._pending) == 1:
            data += self._pending.pop()
        if data:
            self._entry[-1] = time.monotonic()
            self._write(data)
        if self._pending or self._fault in ("cut", "reset", "die"):
            self._server.wheel.again(self, self._server.options.itl)
        elif self._fault == "close":
            self._transport.close()

    def _write(self, data: bytes) -> None:
        """Straight to the socket, so that the time logged is the time of writing; uvloop would write at the end of its turn."""
        written = 0
        if not self._transport.get_write_buffer_size():
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                pass
            except OSError:
                self._transport.abort()
                return
        if written < len(data):
            self._transport.write(data[written:])

    def _write_fragments(self, data: bytes, piece: int) -> None:
        """A third now, the rest in two turns, then the next event."""
        if self._transport.is_closing():
            return
        if len(data) > piece:
            self._transport.write(data[:piece])
            asyncio.get_running_loop().call_later(0.002, self._write_fragments, data[piece:], piece)
            return
        self._transport.write(data)
        if self._pending:
            self._server.wheel.add(self, self._server.options.itl)

    def _break(self) -> None:
        if self._fault == "die":
            os._exit(3)
        if self._fault == "reset":
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif self._fault == "cut":
            self._transport.close()

    def _plain(self, status: int, body: dict[str, Any]) -> None:
        data = orjson.dumps(body)
        reason = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 500: b"Internal Server Error"}[status]
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, reason, len(data))
        self._transport.write(head + data)


async def serve(options: argparse.Namespace) -> None:
    """Listen until SIGTERM or SIGINT; connections queue for `slow_accept` s before they are accepted."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=4096, reuse_port=options.share_port)
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    server = Server(options, loop)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await asyncio.sleep(options.slow_accept)
    await loop.create_server(lambda: Stream(server), sock=listener, backlog=4096)
    gc.freeze()
    gc.disable()
    await stopped.wait()
    if options.log:
        options.log.write_text("".join(json.dumps(entry) + "\n" for entry in server.log))


@contextlib.contextmanager
def running(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator["Running"]:
    """A null server in a process of its own with these command line arguments; `prefix`: a command that starts it (taskset)."""
    command = [*prefix, sys.executable, "-m", "tests.stand_ins.null_server", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the null server did not start: {' '.join(command)}")
            yield Running(process, f"http://127.0.0.1:{line.split()[-1]}")
        finally:
            process.terminate()


class Running(NamedTuple):
    """A null server's process and its base URL."""

    process: subprocess.Popen[str]
    url: str


def main() -> None:
    """Parse the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.stand_ins.null_server", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--share-port", action="store_true", help="several servers may listen at it; the kernel deals them the connections")
    parser.add_argument("--ttft", type=float, default=0.02, help="s from a request to its first token")
    parser.add_argument("--itl", type=float, default=0.01, help="s between tokens")
    parser.add_argument("--tokens", type=int, default=0, help="tokens per answer; 0: max_tokens of the request")
    parser.add_argument("--fault", choices=FAULTS, default="none", help="for requests whose model names none")
    parser.add_argument("--models", default="", help="the only ones that there are, with commas between them; '': any")
    parser.add_argument("--slow-accept", type=float, default=0.0, help="s for which connections wait to be accepted")
    parser.add_argument("--log", type=Path, help="where to write when each request came and was answered")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
