"""The requests that a measurement sends to an engine: made-up prompts, sent by the client, checked, and their records back."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.engine import Endpoint, EngineError
from harness.replay.client import Client
from results.record import RequestRecord
from workloads.prompts import RESERVED
from workloads.trace import Request, Trace

POOL = 2_000_003  # seeds of the pool's prompts lie apart from those of fresh ones


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """One request: its prompt, the tokens to generate, and when to send it (s after the first)."""

    prompt: Sequence[int]
    output: int
    arrival: float = 0.0


@dataclass(kw_only=True)
class ProbeSender:
    """Sends probe requests to an endpoint. No two `fresh` prompts share a prefix; `pooled` ones stay the same, and a prefix cache may
    hold them.

    The prompts differ from sender to sender, so that a server which was probed before has none of them in its prefix cache; their content
    has no other effect.
    """

    endpoint: Endpoint  # where the requests go
    client: Client  # what sends them
    vocab_size: int  # tokens are drawn from [first_id, vocab_size)
    longest: int  # length of the pool's prompts, tokens
    first_id: int = RESERVED  # see vocab_size
    seed: int = field(default_factory=time.time_ns)  # of the prompts
    _sent: int = 0  # fresh prompts so far
    _pool: dict[int, NDArray[np.int64]] = field(default_factory=dict)  # the pool's prompts, by number
    _put: dict[int, int] = field(default_factory=dict)  # tokens of each of the pool's prompts that were put into the prefix cache

    def fresh(self, length: int) -> list[int]:
        """A random prompt that was never sent before."""
        self._sent += 1
        prompt: list[int] = self._random([self.seed, self._sent], length).tolist()
        return prompt

    def pooled(self, index: int, length: int) -> list[int]:
        """The first `length` tokens of the pool's prompt `index`; prompts of different index share nothing."""
        if index not in self._pool:
            self._pool[index] = self._random([self.seed, POOL, index], self.longest)
        prompt: list[int] = self._pool[index][:length].tolist()
        return prompt

    def put(self, number: int, length: int) -> None:
        """Have the prefix cache hold `length` tokens of the pool's first `number` prompts: sends those that `put` did not send before."""
        missing = [i for i in range(number) if self._put.get(i, 0) < length]
        if missing:
            self.send([ProbeRequest(prompt=self.pooled(i, length), output=1) for i in missing])
            self._put |= dict.fromkeys(missing, length)

    def _random(self, seed: list[int], length: int) -> NDArray[np.int64]:
        return np.random.default_rng(seed).integers(min(self.first_id, self.vocab_size - 2), self.vocab_size, length)

    def refused(self, length: int) -> float | None:
        """Seconds until the server has turned away a fresh prompt of so many tokens; None when it did not do that."""
        request = Request(request_id=0, arrival=0.0, input_tokens=length, output_tokens=1)
        replay = self.client.replay(self.endpoint, Trace(name="refusal", requests=(request,)), [self.fresh(length)])
        (record,), (ended,) = replay.records, replay.ended
        if record.error is None or record.first_token is not None or record.sent is None or ended is None:
            return None
        return ended - record.sent

    def send(self, asked: Sequence[ProbeRequest]) -> tuple[RequestRecord, ...]:
        """Send the requests and return their records, in order. Raises EngineError when one of them failed."""
        order = sorted(range(len(asked)), key=lambda i: asked[i].arrival)
        requests = tuple(
            Request(request_id=i, arrival=asked[i].arrival, input_tokens=len(asked[i].prompt), output_tokens=asked[i].output) for i in order
        )
        replay = self.client.replay(self.endpoint, Trace(name="probe", requests=requests), [asked[i].prompt for i in order])
        records = check(replay.records, {r.request_id: r for r in requests}, self.endpoint)
        return tuple(records[i] for i in range(len(asked)))


def check(records: Iterable[RequestRecord], asked: Mapping[int, Request], endpoint: Endpoint) -> dict[int, RequestRecord]:
    """The records by id. Raises EngineError, in one line, when a request failed or came back without one time per token asked for."""
    found = {record.request_id: record for record in records}
    for record in found.values():
        request = asked[record.request_id]
        what = f"{endpoint.system} at {endpoint.url}: a probe of {request.input_tokens} + {request.output_tokens} tokens"
        if record.error is not None:
            raise EngineError(f"{what} failed: {record.error}; see the server's log")
        times = record.token_times
        if record.sent is None or record.first_token is None or times is None or len(times) != request.output_tokens:
            got = "no token times" if times is None else f"{len(times)} tokens"
            raise EngineError(f"{what} came back with {got}; the server must stream one event per token and honour ignore_eos")
    return found
