"""A child server's life, held against real processes that crash, hang, ignore SIGTERM, fork, and outlive their parents."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from harness.engine import EngineError
from harness.engines import server
from tests.patience import wait_until
from tests.stand_ins.small_server import small_server

TAG = "PLUMBLINE_TEST_TAG"
SERVE = """
    import http.server, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
    print("listening", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
FAMILY = """
import subprocess, sys
sleeper = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
subprocess.Popen(sleeper)
subprocess.Popen(sleeper, start_new_session=True)
"""

Start = Callable[..., AbstractContextManager[server.Child]]


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def start(tmp_path: Path, tag: str) -> Start:
    """Start a Python program as a child server; it gets its port as its only argument."""

    def start(program: str, *, deadline: float = 60.0, grace: float = 0.3, port: int | None = None) -> AbstractContextManager[server.Child]:
        port = server.free_port() if port is None else port
        return server.child(
            [sys.executable, "-c", program, str(port)],
            name="toy",
            env=os.environ | {TAG: tag},
            log=tmp_path / "server.log",
            ready_url=f"http://127.0.0.1:{port}/health",
            deadline=deadline,
            grace=grace,
        )

    return start


def tagged(tag: str) -> list[psutil.Process]:
    """Every living process that carries the tag in its environment, this one left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TAG) == tag and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_serves_until_the_block_ends_and_leaves_nothing(start: Start, tag: str, tmp_path: Path) -> None:
    with start(textwrap.dedent(SERVE)) as child:
        assert child.alive()
        assert len(tagged(tag)) == 2  # the server and its supervisor
        assert len(child.processes()) == 1
    assert tagged(tag) == []
    assert "listening" in (tmp_path / "server.log").read_text()


def test_ends_what_ignores_sigterm_and_every_descendant(start: Start, tag: str) -> None:
    with start(STUBBORN + FAMILY + textwrap.dedent(SERVE)):
        assert wait_until(lambda: len(tagged(tag)) == 4)  # supervisor, server, a child, and a child in a session of its own
    assert tagged(tag) == []


def test_orphans_are_ended_too(start: Start, tag: str) -> None:
    double_fork = (
        "import os\nif os.fork() == 0:\n    if os.fork() == 0:\n        import time; time.sleep(600)\n    os._exit(0)\nos.wait()\n"
    )
    with start(double_fork + textwrap.dedent(SERVE)):
        assert wait_until(lambda: len(tagged(tag)) == 3)
    assert tagged(tag) == []


def test_crash_at_start_says_why_in_one_line(start: Start, tag: str, tmp_path: Path) -> None:
    program = "import sys; print('loading'); print('ValueError: no such model', file=sys.stderr); print('bye'); sys.exit(3)"
    with pytest.raises(EngineError) as caught, start(program):
        raise AssertionError("it was never ready")
    message = str(caught.value)
    assert "exit code 3" in message and "ValueError: no such model" in message and str(tmp_path / "server.log") in message
    assert "\n" not in message
    assert "loading" in "".join(caught.value.__notes__)
    assert tagged(tag) == []


def test_crash_at_start_ends_the_children_it_left(start: Start, tag: str) -> None:
    with pytest.raises(EngineError, match="exit code 5"), start(FAMILY + "sys.exit(5)"):
        pass
    assert tagged(tag) == []


def test_never_ready_ends_at_the_deadline(start: Start, tag: str) -> None:
    with (
        pytest.raises(EngineError, match=r"not ready after 0\.5 s .*its log .*server\.log is empty"),
        start("import time; time.sleep(600)", deadline=0.5),
    ):
        pass
    assert tagged(tag) == []


@pytest.mark.parametrize("deadline", [0.5, 1e-9], ids=["in time", "once at least"])
def test_unhealthy_is_not_ready(start: Start, deadline: float) -> None:
    with (
        small_server({"GET /health": (503, "loading")}) as unhealthy,
        pytest.raises(EngineError, match="HTTP 503"),
        start("import time; time.sleep(600)", deadline=deadline, port=unhealthy.server_address[1]),
    ):
        pass


def test_program_that_does_not_exist(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match="No such file or directory: '/no/such/program'"),
        server.child(
            ["/no/such/program"],
            name="toy",
            env=os.environ,
            log=tmp_path / "server.log",
            ready_url="http://127.0.0.1:9/health",
            deadline=60.0,
        ),
    ):
        pass


@pytest.mark.parametrize("failure", [None, RuntimeError("requests failed")], ids=["quiet block", "block raised as well"])
def test_death_during_the_run_is_an_error(start: Start, tag: str, failure: Exception | None) -> None:
    with (
        pytest.raises(EngineError, match=r"ended with signal 9 .*during the run; its log says: .*200") as caught,
        start(textwrap.dedent(SERVE)) as child,
    ):
        child.processes()[0].kill()
        assert wait_until(lambda: not child.alive())
        if failure is not None:
            raise failure
    assert caught.value.__cause__ is failure
    assert tagged(tag) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ZeroDivisionError()], ids=["Ctrl-C", "a bug"])
def test_failures_of_the_block_pass_through(start: Start, tag: str, failure: BaseException) -> None:
    with pytest.raises(type(failure)), start(textwrap.dedent(SERVE)):
        raise failure
    assert tagged(tag) == []


@pytest.mark.parametrize(
    ("number", "ready"),
    [(signal.SIGKILL, True), (signal.SIGINT, True), (signal.SIGKILL, False), (signal.SIGTERM, False)],
    ids=["kill -9, ready", "Ctrl-C, ready", "kill -9, starting", "kill, starting"],
)
def test_nothing_outlives_a_harness_that_is_killed(tmp_path: Path, tag: str, number: int, ready: bool) -> None:
    program = STUBBORN + FAMILY + (textwrap.dedent(SERVE) if ready else "import time; time.sleep(600)")
    harness = f"""
        import os, sys, time
        from pathlib import Path
        from harness.engines import server
        port = server.free_port()
        with server.child([sys.executable, "-c", {program!r}, str(port)], name="toy", env=os.environ, log=Path({str(tmp_path / "log")!r}),
                          ready_url=f"http://127.0.0.1:{{port}}/", deadline=300.0, grace=0.2):
            print("ready", flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(harness)], env=os.environ | {TAG: tag}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if ready:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    assert wait_until(lambda: len(tagged(tag)) == 5)  # harness, supervisor, server, its two children
    process.send_signal(number)
    process.communicate()
    assert wait_until(lambda: tagged(tag) == [])


def test_port_in_use_is_said_before_anything_starts() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} of 127.0.0.1 cannot be used .*engine.port=null"):
            server.require_port(port)
    server.require_port(port)


def test_fetch_of_nobody_is_an_oserror() -> None:
    with pytest.raises(OSError, match="refused"):
        server.fetch(f"http://127.0.0.1:{server.free_port()}/health", timeout=5.0)


def test_fetch_of_who_never_answers_names_whom_it_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
        with pytest.raises(OSError, match=f"{url}: no answer within 0.2 s"):
            server.fetch(url, timeout=0.2)


def test_fetch_of_what_is_not_http_is_an_oserror() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def greet() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-dropbear\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(OSError, match="BadStatusLine"):
            server.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "a\nTraceback\n  File x\ntorch.OutOfMemoryError: CUDA out of memory\nRuntimeError: Engine core failed\n",
            "torch.OutOfMemoryError: CUDA out",
        ),
        ("usage: x\napi_server.py: error: unrecognized arguments: --bad\n", "error: unrecognized arguments: --bad"),
        ("FutureWarning: soon\nINFO all is well\n\n", "INFO all is well"),
        ("(EngineCore pid=7) ERROR 01-01 [core.py:1] ValueError: too large\n", "ValueError: too large"),
        (
            "WARNING the ulimit may cause `OSError: [Errno 24] Too many open files`. Raise it\nModuleNotFoundError: No module named 'x'\n",
            "ModuleNotFoundError: No module named 'x'",
        ),
    ],
)
def test_cause_is_the_first_error_of_a_log_else_its_last_line(log: str, words: str) -> None:
    found = server.cause(log)
    assert found is not None and words in found and "\n" not in found


def test_cause_of_an_empty_log_is_unknown() -> None:
    assert server.cause(" \n\n") is None
