"""llama.cpp's server as its clients see it (commit 0c1e570): the wire form of its answers, and the manners of its connections.

A connection holds one of few threads for as long as it is open, idle or not. Answers say keep-alive, and the connection is closed all the
same after a stream. Tokens whose bytes are no whole character yet wait for the next one, and share its event. Whatever model a request
names, the same one answers.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

SLOTS = 2
OVERHEAD = 12  # tokens of the chat template
PROPS = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": SLOTS, "build_info": "b1-0c1e570", "eos_token": "<|end|>"}
MODELS = {"object": "list", "data": [{"id": "counting", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}]}
PACE = 0.002  # s between events
IDLE = 60.0  # s until an idle connection is closed; in the real one 5 s


class LlamaServer(HTTPServer):
    """asked: the bodies of all requests for an answer. erases: whether it was started with --slot-save-path."""

    def __init__(self, *, threads: int, erases: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pool = ThreadPoolExecutor(threads)
        self.erases, self.asked = erases, list[Mapping[str, Any]]()
        self.seen = set[str]()  # prompts whose KV is in a slot
        self.open = set[Any]()  # connections

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        self.pool.submit(self._one, request, client_address)

    def _one(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client closed it
        finally:
            self.open.discard(request)
            self.shutdown_request(request)


class Handler(BaseHTTPRequestHandler):
    server: LlamaServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE

    def do_GET(self) -> None:
        pages: dict[str, Mapping[str, Any]] = {"/v1/models": MODELS, "/props": PROPS}
        found = pages.get(self.path)
        self._plain(404 if found is None else 200, found or {"error": {"message": "File Not Found"}})

    def do_POST(self) -> None:
        if self.path.startswith("/slots/"):
            self._erase()
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"connection": self.headers.get("Connection")})
        prompt = body.get("prompt") or body.get("input") or body["messages"][0]["content"]
        overhead = 0 if "prompt" in body else OVERHEAD
        inputs = overhead + len(prompt.split() if isinstance(prompt, str) else prompt)
        cached = inputs - 1 if str(prompt) in self.server.seen else 0
        self.server.seen.add(str(prompt))
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/event-stream"),
            ("Transfer-Encoding", "chunked"),
            ("Keep-Alive", "timeout=5, max=100"),
        ):
            self.send_header(name, value)
        self.end_headers()
        form = {"/v1/completions": completions, "/v1/chat/completions": chat, "/v1/responses": responses}[self.path]
        for event in form(body, inputs, cached):
            time.sleep(PACE)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True  # as it does, whatever it said

    def _erase(self) -> None:
        if not self.server.erases:
            error = "This server does not support slots action. Start it with `--slot-save-path`"
            self._plain(501, {"error": {"code": 501, "message": error, "type": "not_supported_error"}})
            return
        self.server.seen.clear()
        self._plain(200, {"id_slot": int(self.path.split("/")[2].partition("?")[0]), "n_erased": 95})

    def _plain(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def pieces(body: Mapping[str, Any], tokens: int) -> Iterator[tuple[str, int]]:
    """Texts of an answer's events, and how many tokens there were with each: the second one waits for the third (a character in two).

    One that ends by itself has no event for its last three tokens.
    """
    for number in range(1, tokens + 1 if body.get("ignore_eos") else tokens - 2):
        if number != 2:
            yield " \u00e9" if number == 3 else " key", number


def reason(body: Mapping[str, Any]) -> str:
    return "length" if body.get("ignore_eos") else "stop"


def timings(body: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    told = {"cache_n": 0, "prompt_n": 3, "prompt_ms": 5.651, "predicted_n": tokens, "predicted_ms": 1.504}
    return {"timings": told} if body.get("timings_per_token") else {}


def completions(body: Mapping[str, Any], inputs: int, cached: int) -> Iterator[bytes]:
    def event(text: str, ended: str | None, **more: Any) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": ended}
        return data({"choices": [choice], "model": "counting", "object": "text_completion"} | more)

    for text, tokens in pieces(body, body["max_tokens"]):
        yield event(text, None, **timings(body, tokens))
    yield event("", reason(body), usage=usage(body["max_tokens"], inputs, cached), timings={"predicted_n": body["max_tokens"]})
    yield b"data: [DONE]\n\n"


def chat(body: Mapping[str, Any], inputs: int, cached: int) -> Iterator[bytes]:
    def event(delta: Mapping[str, Any], ended: str | None = None, **more: Any) -> bytes:
        return data({"choices": [{"finish_reason": ended, "index": 0, "delta": delta}], "object": "chat.completion.chunk"} | more)

    yield event({"role": "assistant", "content": None})
    for text, tokens in pieces(body, body["max_tokens"]):
        yield event({"content": text}, **timings(body, tokens))
    yield event({}, reason(body))
    yield data({"choices": [], "usage": usage(body["max_tokens"], inputs, cached), "timings": {"predicted_n": body["max_tokens"]}})
    yield b"data: [DONE]\n\n"


def responses(body: Mapping[str, Any], inputs: int, cached: int) -> Iterator[bytes]:
    def event(kind: str, **more: Any) -> bytes:
        return b"event: " + kind.encode() + b"\n" + data({"type": kind} | more)

    yield event("response.created", response={"status": "in_progress"})
    yield event("response.content_part.added", part={"type": "output_text", "text": ""})
    for text, _ in pieces(body, body["max_output_tokens"]):
        yield event("response.output_text.delta", delta=text)
    yield event("response.output_text.done", text="...")
    counts = {"input_tokens": inputs, "output_tokens": body["max_output_tokens"], "input_tokens_details": {"cached_tokens": cached}}
    yield event("response.completed", response={"status": "completed", "usage": counts})


def usage(outputs: int, inputs: int, cached: int) -> dict[str, Any]:
    return {"completion_tokens": outputs, "prompt_tokens": inputs, "prompt_tokens_details": {"cached_tokens": cached}}


def data(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


@contextmanager
def llama_server(*, threads: int = 6, erases: bool = True) -> Iterator[LlamaServer]:
    """Serve until the block ends."""
    server = LlamaServer(threads=threads, erases=erases)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        for connection in tuple(server.open):
            server.shutdown_request(connection)
        server.pool.shutdown(cancel_futures=True)
        server.server_close()
        thread.join()
