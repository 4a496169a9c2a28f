"""The proxy before a vLLM with prefill and decode apart: each request goes to the prefill instance first, then to the decode instance.

Run as a process of its own: `python -m harness.engines.pd_proxy PORT PREFILL_URL DECODE_URL`. The protocol between the two is vLLM's own
(its kv_transfer_params, as in its examples/online_serving/disaggregated_serving): the prefill instance computes the prompt and one token,
keeps the KV cache and says where it is; the decode instance fetches it, computes the prompt's last token again and streams from there on.
So the client sees the first token after the prefill, the transfer and one decode step. The count of cached tokens that it gets is the
prefill instance's.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web

from harness.engines.server import HOST

ASK_PREFILL = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
JSON = {"Content-Type": "application/json"}
LIMIT = 1 << 26  # bytes of a request's body: a prompt of ten million tokens


class Proxy:
    """Both instances, and the connections to them. prefill, decode: their base URLs."""

    def __init__(self, prefill: str, decode: str) -> None:
        self.urls = {"prefill": prefill, "decode": decode}
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Made at first use, within the running loop; as many connections as there are requests."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
        return self._session

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions. An error of either instance is passed on as it is."""
        body = orjson.loads(await request.read())
        first = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        first |= {"max_tokens": 1, "kv_transfer_params": ASK_PREFILL}
        async with self.session.post(f"{self.urls['prefill']}/v1/completions", data=orjson.dumps(first), headers=JSON) as answer:
            said = await answer.read()
            if answer.status != 200:
                return web.Response(status=answer.status, body=said, content_type=answer.content_type)
        return await self._decode(request, body | {"kv_transfer_params": orjson.loads(said).get("kv_transfer_params")})

    async def _decode(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        async with self.session.post(f"{self.urls['decode']}/v1/completions", data=orjson.dumps(body), headers=JSON) as answer:
            out = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers.get("Content-Type", "")})
            await out.prepare(request)
            async for piece in answer.content.iter_any():
                await out.write(piece)
            await out.write_eof()
            return out

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics: those of both, one after the other, each behind a line that says whose they are."""
        parts = []
        for name, url in self.urls.items():
            async with self.session.get(f"{url}/metrics") as answer:
                parts.append(f"{marker(name)}\n{await answer.text()}")
        return web.Response(text="\n".join(parts))

    async def health(self, request: web.Request) -> web.Response:
        """GET /health."""
        return web.Response()


def marker(instance: str) -> str:
    """The comment before an instance's metrics, and before its part of the log."""
    return f"# instance {instance}"


async def serve(port: int, prefill: str, decode: str) -> None:
    """Answer on `port` until the process is ended."""
    proxy = Proxy(prefill, decode)
    app = web.Application(client_max_size=LIMIT)
    app.add_routes([web.post("/v1/completions", proxy.complete), web.get("/metrics", proxy.metrics), web.get("/health", proxy.health)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
