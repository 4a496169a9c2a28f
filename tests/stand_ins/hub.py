"""A Hugging Face hub of one model over a real socket: the three answers that the hub's own client asks for.

`with served("org/name", folder) as (url, asked)`: HF_ENDPOINT=url; asked: the files that were downloaded so far. Other models are not
there (404).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c0ffee" + 34 * "0"


@contextmanager
def served(model: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of `folder` as the model, at one commit."""
    asked: list[str] = []
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            name = path.rpartition("/")[2]
            if path.startswith(f"api/models/{model}/revision/") or path == f"api/models/{model}":
                siblings = [{"rfilename": file} for file in files]
                return self.answer(json.dumps({"id": model, "sha": COMMIT, "siblings": siblings}).encode())
            if path.startswith(f"api/models/{model}/tree/"):
                return self.answer(json.dumps([entry(file, data) for file, data in files.items()]).encode())
            if path.startswith(f"{model}/resolve/") and name in files:
                if self.command == "GET":
                    asked.append(name)
                return self.answer(files[name])
            return self.answer(b'{"error": "Repository not found"}', status=404, more={"X-Error-Code": "RepoNotFound"})

        def answer(self, body: bytes, status: int = 200, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(body)), "ETag": f'"{digest(body)}"', "X-Repo-Commit": COMMIT, **(more or {})}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def entry(file: str, data: bytes) -> dict[str, object]:
    """A line of the hub's listing of a tree."""
    return {"type": "file", "path": file, "size": len(data), "oid": digest(data)}


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
