"""A real HTTP server on a real socket with fixed answers, for what only asks (/v1/models, /metrics, ...)."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answers = Mapping[str, tuple[int, str]]  # "METHOD /path" -> (status, body); anything else is 404


class SmallServer(ThreadingHTTPServer):
    """answers may be changed while it runs; `asked` lists every request so far, with its Authorization header."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = dict(answers)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: SmallServer

    def do_GET(self) -> None:
        line = f"{self.command} {self.path}"
        self.server.asked.append((line, self.headers.get("Authorization")))
        status, body = self.server.answers.get(line, (404, "not here"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def small_server(answers: Answers) -> Iterator[SmallServer]:
    """Serve `answers` until the block ends."""
    server = SmallServer(answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
