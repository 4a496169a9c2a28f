"""The client. Open loop: every request of a trace is sent at its arrival, whatever became of those before it. Where a Release says so, the
end of one request makes another due (closed loops, sessions).

Before the start: all deadlines, all request bytes, the connections. During the run: send, and stamp bytes as they come, with the garbage
collector off. After it: `harness.replay.sse` reads the bytes. A failure of any kind is a record with an `error`; nothing is retried.
"""

import contextlib
import dataclasses
import gc
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from harness.engine import Endpoint, EngineError
from harness.replay import adapters, headers, lengths, sse
from harness.replay.connection import Exchange, ServerAddress
from harness.replay.loop import run_in_loop
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.wire_protocol import WireProtocol
from harness.replay.released import ReleasedSession
from harness.replay.session import Session, SessionSettings
from harness.replay.shards.crew import Start, run_together
from harness.replay.shards.merge import Shard, merge, shards_of
from harness.replay.shards.share import share_out
from results.project.progress import Progress
from results.record import RequestRecord
from workloads.release import Due, Release, Turns
from workloads.trace import Request, Trace

_SWITCH_INTERVAL = 1e-4  # s; with Python's default of 5 ms another thread could hold the loop up for that long


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of one replay."""

    # what was asked: as given; where ends make requests due, those that became due, at the moment at which they did. Prompts shorter than
    # the endpoint's shortest text are as long as that, and answers that were free to end sooner as long as they were
    trace: Trace
    records: tuple[RequestRecord, ...]  # one per request, in the trace's order
    ended: tuple[float | None, ...]  # s since second 0 of the last byte of each request's answer, whatever it said; None: no answer
    started_at: str  # UTC, ISO 8601
    epoch: float  # time.monotonic() at the trace's second 0
    wall_s: float  # from there to the last answer
    cpu_s: float  # CPU seconds of the client in that time
    shards: tuple[Shard, ...] = ()  # what each of the client's processes did, where there were several


@dataclass(frozen=True, kw_only=True)
class Client:
    """Replays traces against an OpenAI-compatible server. conf/client/default.yaml says more of the settings."""

    request_timeout: float  # s from sending to the last byte
    drain_timeout: float  # s from the last arrival to the end of the replay
    connect_timeout: float  # s per connection
    connections: int  # idle ones that a process keeps ready ahead of need; 0: each request opens its own
    keep_alive: float  # s; a connection idle for longer is not reused
    spin: float  # s before a deadline from which the clock is watched rather than slept on
    count_tokens: bool  # ask for a running token count in each event (exact token times; vLLM, SGLang and llama.cpp have it)
    # environment variable with the server's key; the key itself is in no configuration, so it is never recorded
    api_key_env: str | None = None
    processes: int = 1  # that share the requests out among themselves, each pinned to a CPU
    protocol: WireProtocol = field(default_factory=Completions)  # the API that is spoken
    headers: Mapping[str, str] | None = None  # more of them; `$NAME`: the value of that environment variable
    extra_body: Mapping[str, Any] | None = None  # more fields of each request; a value None takes one out
    ignore_eos: bool = True  # answers are as long as asked; False: the model may end them sooner
    adapters: Mapping[str, float] | None = None  # LoRA adapters and their shares of the requests
    adapters_seed: int = 0  # of the draw which request asks for which adapter

    def __post_init__(self) -> None:
        if isinstance(self.protocol, str):
            raise ValueError(f"client.protocol is a choice with settings of its own: write client/protocol={self.protocol}")
        headers.check(self.headers or {})
        adapters.check(self.adapters or {})
        for name in ("request_timeout", "drain_timeout", "connect_timeout", "keep_alive"):
            if not getattr(self, name) > 0:
                raise ValueError(f"client.{name} must be > 0 s, got {getattr(self, name)}")
        if self.connections < 0:
            raise ValueError(f"client.connections must be >= 0, got {self.connections}")
        if type(self.processes) is not int or self.processes < 1:
            raise ValueError(f"client.processes must be a number >= 1, got {self.processes!r}")
        if not 0 <= self.spin <= 0.01:
            raise ValueError(f"client.spin must be between 0 and 0.01 s, got {self.spin}")

    def replay(
        self,
        endpoint: Endpoint,
        trace: Trace,
        prompts: Sequence[Sequence[int]],
        *,
        release: Release | None = None,
        progress: Progress | None = None,
        start: Start | None = None,
    ) -> Replay:
        """Send each request at its arrival, its prompt (token ids) from `prompts` in the trace's order; return when all are settled.

        release: what becomes due when, in the place of the trace's arrivals; None: as the trace says, at its arrivals, and turns of
        sessions after those before. A turn fails with one that it waits for. start: called when all is prepared, tells second 0, a
        time.monotonic() value; None: at once.
        Raises ValueError when prompts and trace do not fit each other, EngineError for a URL or a key that is none. Ctrl-C passes through.
        """
        if self.processes > 1:
            return self._in_processes(endpoint, trace, prompts, release, progress)
        connections = self.connections if endpoint.keeps_connections else 0
        address, head = self._address(endpoint.url, keep_alive=connections > 0)
        self._check_text(endpoint)
        exchanges = [Exchange(self._request(head, endpoint, r, p)) for r, p in zip(trace, prompts, strict=True)]
        if endpoint.text_prompts is not None:
            trace = lengths.at_least(trace, endpoint.text_prompts.shortest)
        named = {setting.name: getattr(self, setting.name) for setting in dataclasses.fields(SessionSettings)}
        settings = SessionSettings(**named | {"connections": connections})
        session: Session
        if release is None and trace.has_sessions:
            release = Turns(trace)
        if release is None:
            session = Session(address, [request.arrival for request in trace], exchanges, settings, progress=progress, start=start)
        else:
            session = released = ReleasedSession(address, release, exchanges, settings, progress=progress, start=start)
        with _quiet_interpreter():
            run_in_loop(session.run)
            if release is not None:
                trace, exchanges = _as_due(trace, exchanges, released.due)
            records = tuple(_record(self, r, x, session.epoch) for r, x in zip(trace, exchanges, strict=True))
            records = _failing_together(trace, records) if trace.has_sessions else records
            ended = tuple(x.reads[-1][0] - session.epoch if x.reads else None for x in exchanges)
        return Replay(
            trace=trace if self.ignore_eos else lengths.as_answered(trace, records),
            records=records,
            ended=ended,
            started_at=session.started_at,
            epoch=session.epoch,
            wall_s=session.wall_s,
            cpu_s=session.cpu_s,
        )

    def check_environment(self) -> None:
        """See that the environment variables are there that the settings name. Raises EngineError."""
        headers.lines(self.headers or {}, self.api_key_env)

    def _in_processes(
        self, endpoint: Endpoint, trace: Trace, prompts: Sequence[Sequence[int]], release: Release | None, progress: Progress | None
    ) -> Replay:
        """The replay by several processes that share the requests out. Raises ShardError when one of them fails."""
        if len(prompts) != len(trace):
            raise ValueError(f"{len(prompts)} prompts for {len(trace)} requests")
        shares = share_out(trace, release, self.processes)
        jobs = [
            partial(self._alone(trace, own.trace).replay, endpoint, own.trace, [prompts[i] for i in own.places], release=own.release)
            for own in shares
        ]
        parts = run_together(jobs, progress)
        asked, records, ended = merge(trace, parts)
        return Replay(
            trace=asked,
            records=records,
            ended=ended,
            started_at=min(part.started_at for part in parts),
            epoch=parts[0].epoch,
            wall_s=max(part.wall_s for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
            shards=shards_of(shares, parts),
        )

    def _alone(self, whole: Trace, share: Trace) -> "Client":
        """One of the processes. Its drain timeout, too, counts from the whole trace's last arrival."""
        return dataclasses.replace(self, processes=1, drain_timeout=self.drain_timeout + whole.duration - share.duration)

    def _address(self, url: str, *, keep_alive: bool) -> tuple[ServerAddress, bytes]:
        """Where to connect, and the head that all requests share."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"engine.url: {url!r} is no server's base URL; give one like http://127.0.0.1:8000")
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        lines = [
            f"POST {parts.path.rstrip('/')}{self.protocol.path} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Accept: text/event-stream",
            "Content-Type: application/json",
            *([] if keep_alive else ["Connection: close"]),
            *headers.lines(self.headers or {}, self.api_key_env),
        ]
        return ServerAddress(host=parts.hostname, port=port, ssl=context), "\r\n".join(lines).encode()

    def _request(self, head: bytes, endpoint: Endpoint, request: Request, prompt: Sequence[int]) -> bytes:
        if len(prompt) != request.input_tokens:
            raise ValueError(f"request {request.request_id}: a prompt of {len(prompt)} tokens for input_tokens {request.input_tokens}")
        fields = {
            "model": adapters.adapter_of(request, self.adapters or {}, self.adapters_seed) or endpoint.served_model,
            **self.protocol.body(
                endpoint.text_prompts.text(prompt) if endpoint.text_prompts else prompt,
                request.output_tokens,
                count_tokens=self.count_tokens,
            ),
            **(endpoint.counting if self.count_tokens else {}),
            **({"ignore_eos": True} if self.ignore_eos else {}),
            "temperature": 0,
            "stream": True,
        }
        if self.extra_body:
            fields = {name: value for name, value in (fields | dict(self.extra_body)).items() if value is not None}
        body = orjson.dumps(fields)
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def _check_text(self, endpoint: Endpoint) -> None:
        if self.protocol.takes_text != (endpoint.text_prompts is not None):
            raise ValueError(
                f"{self.protocol.path}: prompts are text where the protocol takes text, and nowhere else; see harness/probing/rehearsal.py"
            )


def _as_due(trace: Trace, exchanges: Sequence[Exchange], due: Sequence[Due]) -> tuple[Trace, list[Exchange]]:
    """The requests that became due, at those times, and their exchanges, in the order of the trace that they make."""
    requests = trace.requests
    moved = [(dataclasses.replace(requests[place], arrival=max(0.0, time)), exchanges[place]) for time, place in due]
    moved.sort(key=lambda pair: pair[0].arrival)  # those of one moment stay in the order in which they became due
    return dataclasses.replace(trace, requests=tuple(request for request, _ in moved)), [exchange for _, exchange in moved]


def _failing_together(trace: Trace, records: Sequence[RequestRecord]) -> tuple[RequestRecord, ...]:
    """The records; a turn has failed, too, when one that it waited for has."""
    failed: set[int] = set()
    told = []
    for request, record in zip(trace, records, strict=True):
        cause = next((other for other in request.after if other in failed), None)
        if cause is not None and (record.error is None or record.sent is None):
            sent = "not sent: " if record.sent is None else ""
            record = dataclasses.replace(record, error=f"{sent}request {cause}, which it waited for, failed")
        if record.error is not None:
            failed.add(request.request_id)
        told.append(record)
    return tuple(told)


def _record(client: Client, request: Request, exchange: Exchange, epoch: float) -> RequestRecord:
    """Read what came back, with times since the trace's second 0."""
    stream = sse.parse(exchange.reads if exchange.status == 200 else (), client.protocol)

    def since(moment: float | None) -> float | None:
        return None if moment is None else moment - epoch

    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=since(exchange.sent),
        first_token=since(stream.first_content),
        finished=since(stream.last_content),
        input_tokens=stream.input_tokens,
        output_tokens=stream.output_tokens,
        cached_tokens=stream.cached_tokens,
        token_times=None if stream.token_times is None else tuple(t - epoch for t in stream.token_times),
        error=_error(request, exchange, stream, may_be_shorter=not client.ignore_eos),
        first_output_token=since(stream.first_output),
        adapter=adapters.adapter_of(request, client.adapters or {}, client.adapters_seed),
    )


def _error(request: Request, exchange: Exchange, stream: sse.Stream, *, may_be_shorter: bool) -> str | None:
    """What went wrong, the server's own words first; None when the answer is whole and as long as asked, or shorter where it may be."""
    if exchange.status not in (None, 200):
        return f"HTTP {exchange.status}: {_excerpt(exchange)}"
    if stream.error is not None:
        return stream.error
    if exchange.failure is None and not stream.done and not stream.contents:
        return f"the answer is no event stream: {_excerpt(exchange)}"
    so_far = f"after {stream.contents} content events of {request.output_tokens} tokens asked"
    if exchange.failure is not None and not stream.done:
        return f"{exchange.failure} ({so_far})" if exchange.reads else exchange.failure
    if stream.finish_reason is None:  # with one, an answer that HTTP calls whole needs no [DONE]: transformers sends none
        return f"stream cut short {so_far}: no {'finish_reason' if stream.done else '[DONE]'}"
    for name, asked, got in (
        ("input_tokens", request.input_tokens, stream.input_tokens),
        ("output_tokens", request.output_tokens, stream.output_tokens),
    ):
        if got is not None and got != asked and not (may_be_shorter and name == "output_tokens" and got < asked):
            return f"{name}: the trace asks for {asked}, the server reports {got}"
    return None


def _excerpt(exchange: Exchange) -> str:
    """The start of the answer, on one line."""
    body = b"".join(piece for _, piece in exchange.reads)[: sse.EXCERPT].decode(errors="replace")
    return " ".join(body.split())


@contextlib.contextmanager
def _quiet_interpreter() -> Iterator[None]:
    """No garbage collection (pauses of 250 ms and more were measured) and short turns for other threads, both restored on exit."""
    enabled, interval = gc.isenabled(), sys.getswitchinterval()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if enabled:
            gc.enable()
