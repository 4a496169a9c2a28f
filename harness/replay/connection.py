"""HTTP/1.1 connections on the hot path: prepared bytes go out, (time, bytes) of what comes back is kept; only frames are parsed."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import cast

import httptools

from harness.replay.sse import Read


class Exchange:
    """One request and what came back of it. Times are time.monotonic() values.

    request: the whole HTTP request. sent: just before its first byte went to the socket. status: HTTP status. reads: the body, as read.
    failure: why it ended without a whole response. settled: nothing more will come.
    """

    __slots__ = ("connection", "failure", "reads", "request", "sent", "settled", "status")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.sent: float | None = None
        self.status: int | None = None
        self.reads: list[Read] = []
        self.failure: str | None = None
        self.settled = False
        self.connection: Connection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where to connect. host, port: the server's. ssl: a context for https, else None."""

    host: str
    port: int
    ssl: SSLContext | None = None


class Connection(asyncio.Protocol):
    """One socket. It carries one exchange at a time and goes back to its pool only when the response ended cleanly."""

    def __init__(self, pool: "ConnectionPool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._fd: int | None = None
        self._now = 0.0
        self._exchange: Exchange | None = None
        self.idle_since: float | None = None  # None until the connection has carried an exchange

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it."""
        return not self._transport.is_closing()

    def start(self, exchange: Exchange) -> None:
        """Send the exchange's request now."""
        self._exchange = exchange
        exchange.connection = self
        request = exchange.request
        exchange.sent = time.monotonic()
        if self._fd is None:
            self._transport.write(request)
            return
        # Straight to the socket: uvloop would queue it behind all reads of this turn of its loop.
        try:
            written = os.write(self._fd, request)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self.abort(f"could not send: {error.strerror}")
            return
        if written < len(request):
            self._transport.write(memoryview(request)[written:])

    def abort(self, reason: str) -> None:
        """Close it at once; an exchange under way fails for that reason."""
        self._transport.abort()
        self._settle(reason)

    def _settle(self, failure: str | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
            exchange.failure = failure
            self._pool.settle(exchange)

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is one in all but name
        if transport.get_extra_info("sslcontext") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """The clock first, then the frame parser (0.9 us), which hands body bytes to on_body."""
        self._now = time.monotonic()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(f"malformed HTTP response: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by either side."""
        self._pool.lost(self)
        self._settle(f"connection lost: {exc}" if exc else "connection closed by the server")

    # httptools
    def on_headers_complete(self) -> None:
        """Status line and headers are in."""
        if self._exchange is not None:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, without its transfer encoding."""
        if self._exchange is not None:
            self._exchange.reads.append((self._now, body))

    def on_message_complete(self) -> None:
        """The response is whole."""
        clean = self._exchange is not None and self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
        clean = clean and self._pool.reuses
        self._settle(None)
        if clean:
            self.idle_since = self._now
            self._pool.release(self)
        else:
            self._transport.abort()


class ConnectionPool:
    """Open connections to one address. It grows whenever all are busy, and keeps `reserve` idle ones ahead of need (0: each
    exchange has one of its own).

    keep_alive: a used connection idle for longer than this (s) is dropped rather than reused, since servers close idle ones (uvicorn
    after 5 s). connect_timeout: s. settled: called once with each exchange of which nothing more will come. refused: called with the
    reason when nobody listens at the address, or none of its connections is left and no new one opens.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        reserve: int,
        keep_alive: float,
        connect_timeout: float,
        settled: Callable[[Exchange], None],
        refused: Callable[[str], None],
    ) -> None:
        self._address, self._reserve, self._keep_alive, self._connect_timeout = address, reserve, keep_alive, connect_timeout
        self._settled, self._refused = settled, refused
        self._host = address.host  # the number it resolved to, once that is known
        self._idle: list[Connection] = []  # the last one used is the first reused
        self._open: set[Connection] = set()
        self._waiting: deque[Exchange] = deque()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def reuses(self) -> bool:
        """Whether a connection carries one exchange after another."""
        return self._reserve > 0

    async def fill(self, count: int) -> None:
        """Have `count` idle connections, or as many as the server takes."""
        wanted = 1  # a single one first: when nobody listens, that is one refusal only
        while len(self._idle) < count:
            before = len(self._idle)
            await asyncio.gather(*(self._connect() for _ in range(wanted)))
            if len(self._idle) <= before:
                return
            wanted = min(64, count - len(self._idle))

    def send(self, exchange: Exchange) -> None:
        """Send on an idle connection now, else on the first that opens or becomes free."""
        connection = self._take()
        if connection is not None:
            connection.start(exchange)
            self.top_up()
        else:
            self._waiting.append(exchange)
            self._spawn()

    def top_up(self) -> None:
        """Start opening one more connection when fewer than `reserve` are idle or being opened."""
        if len(self._idle) + len(self._connecting) < self._reserve:
            self._spawn()

    def cancel(self, exchange: Exchange, reason: str) -> None:
        """Give an exchange up, whether it waits for a connection or for an answer."""
        if exchange.connection is not None:
            exchange.connection.abort(reason)
        elif not exchange.settled:
            exchange.failure = reason
            self.settle(exchange)

    def close(self) -> None:
        """Close every socket at once."""
        for task in self._connecting:
            task.cancel()
        for connection in tuple(self._open):
            connection.abort("the replay ended")

    # What a connection tells its pool.
    def settle(self, exchange: Exchange) -> None:
        """Nothing more will come of this exchange."""
        if not exchange.settled:
            exchange.settled = True
            self._settled(exchange)

    def release(self, connection: Connection) -> None:
        """A connection is free: the exchange that has waited longest gets it."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.settled:
                connection.start(exchange)
                return
        if self.reuses:
            self._idle.append(connection)
        else:
            connection.abort("not needed any more")

    def lost(self, connection: Connection) -> None:
        """A connection's socket is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _take(self) -> Connection | None:
        oldest = time.monotonic() - self._keep_alive
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and (connection.idle_since is None or connection.idle_since > oldest):
                return connection
            connection.abort("idle for too long")
        return None

    def _spawn(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        address = self._address
        name = address.host if address.ssl else None
        try:
            async with asyncio.timeout(self._connect_timeout):
                transport, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self), self._host, address.port, ssl=address.ssl, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            self._not_connected(error)
            return
        self._host = transport.get_extra_info("peername")[0]
        self._open.add(connection)
        self.release(connection)

    def _not_connected(self, error: OSError) -> None:
        """A connection did not open: the exchange that has waited longest fails. When there is no server any more, `refused` says so."""
        reason = f"could not connect to {self._address.host}:{self._address.port}: {error.strerror or error or 'timed out'}"
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.settled:
                self.cancel(exchange, reason)
                break
        if isinstance(error, ConnectionRefusedError) or not self._open:
            self._refused(reason)
