"""A child server's life: a free port, a log, readiness with a deadline, a clear error when it dies, nothing left behind.

`child` is the context; the process tree is ended by `supervisor.py`, also when the harness itself is killed.
"""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from harness.engine import EngineError

HOST = "127.0.0.1"
POLL = 0.1  # s between two health checks
SUPERVISOR = Path(__file__).with_name("supervisor.py")
CAUSE = re.compile(r"(?<![\w.`])([\w.]*(?:Error|Exception|Interrupt)|\S*: error|error): *\S.*", re.MULTILINE)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def environ(extra: Mapping[str, str]) -> dict[str, str]:
    """A child server's environment variables: this process's and `extra`.

    PYTHONDONTWRITEBYTECODE is taken off: without byte code every start would compile an engine's sources anew (tens of seconds).
    """
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")} | dict(extra)


def require_port(port: int, host: str = HOST) -> None:
    """Raise EngineError when somebody already listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (
                f"port {port} of {host} cannot be used ({error.strerror}); stop who holds it, or ask for a free port with engine.port=null"
            )
            raise EngineError(reason) from error


def fetch(url: str, *, method: str = "GET", timeout: float = 10.0, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """One HTTP request: (status, body). Raises OSError when there is no HTTP answer within `timeout` s."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or HOST, parts.port, timeout=timeout)
    try:
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    except TimeoutError as error:
        raise TimeoutError(f"{url}: no answer within {timeout:g} s") from error
    finally:
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running server."""

    name: str  # for messages
    process: "subprocess.Popen[bytes]"  # its supervisor
    log: Path  # where its output goes

    def processes(self) -> list[psutil.Process]:
        """The server's processes as of now, without its supervisor."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def alive(self) -> bool:
        """Whether the server's first process still runs."""
        return self.process.poll() is None

    def require_alive(self, when: str) -> None:
        """Raise EngineError with the exit code and the log's own words when the server has ended."""
        if not self.alive():
            raise self.error(f"ended with {_exit_words(self.process.returncode)} {when}")

    def error(self, what: str) -> EngineError:
        """One line: what happened, the log's own words, where the log is. The log's tail comes as the exception's note."""
        text = self.log.read_text(errors="replace")
        said = cause(text)
        error = EngineError(f"{self.name} {what}; " + (f"its log says: {said}; see {self.log}" if said else f"its log {self.log} is empty"))
        error.add_note("\n".join(text.splitlines()[-30:]))
        return error


@contextmanager
def child(
    argv: Sequence[str],
    *,
    name: str,
    env: Mapping[str, str],
    log: Path,
    ready_url: str,
    deadline: float,
    grace: float = 10.0,
    cpus: Sequence[int] = (),
    cwd: Path | None = None,
) -> Iterator[Child]:
    """Start `argv`, yield when `ready_url` answers 200, end its whole process tree on exit.

    env: its whole environment. log: receives its stdout and stderr. deadline: s from start to readiness. grace: s between SIGTERM and
    SIGKILL. cpus: the cores it may use (none: all). Raises EngineError when it cannot be started, dies at start, is not ready in time, or
    has died by the time the block ends (Ctrl-C passes through as it is).
    """
    with _started(argv, name=name, env=env, log=log, grace=grace, cpus=cpus, cwd=cwd) as server:
        _wait_ready(server, ready_url, deadline)
        try:
            yield server
        except Exception as error:
            if not server.alive():
                raise server.error(f"ended with {_exit_words(server.process.returncode)} during the run") from error
            raise
        server.require_alive("during the run")


def finish(
    argv: Sequence[str],
    *,
    name: str,
    env: Mapping[str, str],
    log: Path,
    limit: float,
    cpus: Sequence[int] = (),
    cwd: Path | None = None,
) -> None:
    """Run a program of an engine's environment to its end, with nothing left behind. See `child` for the arguments; limit: s.

    Raises EngineError when it fails or is not done by then.
    """
    with _started(argv, name=name, env=env, log=log, grace=0.0, cpus=cpus, cwd=cwd) as program:
        try:
            code = program.process.wait(timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise program.error(f"was not done after {limit:g} s") from error
        if code != 0:
            raise program.error(f"ended with {_exit_words(code)}")


@contextmanager
def _started(
    argv: Sequence[str], *, name: str, env: Mapping[str, str], log: Path, grace: float, cpus: Sequence[int], cwd: Path | None
) -> Iterator[Child]:
    log.parent.mkdir(parents=True, exist_ok=True)
    supervised = [sys.executable, "-I", "-S", str(SUPERVISOR), str(grace), ",".join(map(str, cpus)), *argv]
    with log.open("wb") as out:
        process = subprocess.Popen(
            supervised, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, env=dict(env), cwd=cwd, start_new_session=True
        )
    try:
        yield Child(name=name, process=process, log=log)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # tells the supervisor to end everything
        process.wait()


def _wait_ready(server: Child, url: str, deadline: float) -> None:
    """Ask `url` until it answers 200; EngineError when the server ends first or `deadline` s pass.

    It is asked once more after that: when the whole machine stood still, the server may have been ready in time.
    """
    end = time.monotonic() + deadline
    while True:
        late = time.monotonic() > end
        server.require_alive("before it was ready")
        try:
            status, _ = fetch(url, timeout=2.0)
            if status == 200:
                return
            said = f"HTTP {status}"
        except OSError as error:
            said = error.strerror or str(error) or type(error).__name__
        if late:
            raise server.error(f"was not ready after {deadline:g} s ({url}: {said})")
        time.sleep(POLL)


def cause(text: str) -> str | None:
    """The line of a log that best says why something failed: its first error (later ones mostly follow from it), else its last line."""
    found = CAUSE.search(text)
    if found is not None:
        return found.group(0).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def pin(process: psutil.Process, cpus: Sequence[int]) -> None:
    """Let every thread of `process`, and those that they start later, run on `cpus` only."""
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(thread.id, cpus)


def cores(child: Child, titles: Sequence[str]) -> list[psutil.Process]:
    """The server's processes that compute. titles: beginnings of their titles."""
    return [p for p in child.processes() if "".join(p.cmdline()[:1]).startswith(tuple(titles))]


def pin_core(child: Child, titles: Sequence[str], cpus: Sequence[int]) -> dict[str, Sequence[int] | None]:
    """Pin the process that computes to the first of the server's cores, and its other processes to the rest.

    titles: beginnings of that process's title. cpus: the cores that the server may use; none: all. Returns core_cpus, the first core; None
    where nothing is pinned: on a single core, or when several processes compute (tensor parallel). On few cores the server's front end
    and the client otherwise push the one busy thread from core to core, and the step times spread.
    """
    allowed = sorted(cpus or os.sched_getaffinity(0))
    computing = cores(child, titles)
    if len(allowed) < 2 or len(computing) != 1:
        return {"core_cpus": None}
    for process in child.processes():
        pin(process, allowed[:1] if process in computing else allowed[1:])
    return {"core_cpus": allowed[:1]}


def _exit_words(code: int) -> str:
    if code == 128 + signal.SIGKILL:
        return "signal 9 (killed by somebody, or out of memory)"
    return f"signal {code - 128}" if code > 128 else f"exit code {code}"
