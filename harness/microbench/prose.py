"""Requests of English prose, in the three forms in which an API server gets them: chat, a text, token ids."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import aiohttp
import numpy as np
from tokenizers import Tokenizer

from harness.engine import Endpoint, EngineError
from harness.engines.prose_model import PROSE
from harness.microbench.frontend import Answer, Burst
from harness.replay.loop import run_in_loop

Api = Literal["chat", "text", "ids"]
APIS: Sequence[Api] = ("chat", "text", "ids")
LONGEST = 4096  # tokens of a prompt


class ProseSender:
    """Sends bursts to one endpoint, each prompt a stretch of the prose that was not sent before. Seeded."""

    def __init__(self, endpoint: Endpoint, words: Tokenizer, api: Api) -> None:
        self._endpoint, self._words, self._api = endpoint, words, api
        self._ids = words.encode(PROSE).ids
        self._rng = np.random.default_rng(0)

    def __call__(self, burst: Burst) -> list[Answer]:
        """The answers, when all have come. Raises EngineError for a refusal."""
        return run_in_loop(partial(self._all, burst))

    async def _all(self, burst: Burst) -> list[Answer]:
        answers: list[Answer] = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            for _ in range(burst.lots):
                answers += await asyncio.gather(*(self._one(session, burst) for _ in range(burst.together)))
        return answers

    async def _one(self, session: aiohttp.ClientSession, burst: Burst) -> Answer:
        path = "/v1/chat/completions" if self._api == "chat" else "/v1/completions"
        async with session.post(self._endpoint.url + path, json=self._body(burst)) as response:
            answer = await response.read()
        events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
        usage = json.loads(events[-1]).get("usage") if response.status == 200 and events else None
        if not usage:
            raise EngineError(f"{self._endpoint.url}{path}: no stream that ends with its usage (HTTP {response.status}: {answer[:200]!r})")
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"])

    def _body(self, burst: Burst) -> dict[str, Any]:
        start = int(self._rng.integers(len(self._ids) - LONGEST))
        ids = self._ids[start : start + burst.input_tokens]
        body = {
            "model": self._endpoint.served_model,
            "max_tokens": burst.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._api == "ids":
            return body | {"prompt": ids}
        text = self._words.decode(ids)
        return body | ({"prompt": text} if self._api == "text" else {"messages": [{"role": "user", "content": text}]})
