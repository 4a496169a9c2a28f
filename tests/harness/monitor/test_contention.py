"""How long others had an engine's core: told from processes that really fight for one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from harness.monitor.contention import Contention, account
from harness.probing.samples import QUIET, Observation, Sighting, quiet
from tests.patience import measured_again, wait_until

SPIN = "while True: pass"
TWO_THREADS = """
import hashlib, threading
def spin():
    while True:
        hashlib.sha256(bytes(1_000_000))  # without the interpreter's lock
threading.Thread(target=spin, daemon=True).start()
spin()
"""

pytestmark = pytest.mark.skipif(account(os.getpid()) is None, reason="this kernel keeps no account (/proc/PID/schedstat)")


@contextmanager
def running(code: str) -> Iterator[int]:
    """A child that runs `code` on the first core that is ours; its process id."""
    pinned = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\n{code}"
    with subprocess.Popen([sys.executable, "-S", "-c", pinned]) as process:
        try:
            assert wait_until(lambda: psutil.Process(process.pid).cpu_times().user > 0.1)  # it has started
            yield process.pid
        finally:
            process.kill()


@measured_again
def test_a_core_that_two_processes_need() -> None:
    with running(SPIN) as pid, running(SPIN), Contention([pid]) as contention:
        time.sleep(1.0)
    assert contention.share is not None and 0.25 < contention.share <= 1.0


def test_its_own_threads_are_not_others() -> None:
    with running(TWO_THREADS) as pid:
        before, begin = account(pid), time.monotonic()
        assert before is not None
        with Contention([pid]) as contention:
            assert wait_until(lambda: (account(pid) or before).others - before.others > 0.3)
        after, wall = account(pid), time.monotonic() - begin
    assert after is not None and contention.share is not None
    assert after.waited - before.waited > 0.1
    assert contention.share * wall < after.waited - before.waited - 0.1


def test_a_probe_goes_by_its_quiet_runs_where_it_has_any() -> None:
    seen = (Observation(kind="decode", batch=1, context=1, seconds=1.0),)

    def run(probe: int, repeat: int, core_wait: float | None, observations: tuple[Observation, ...] = seen) -> Sighting:
        return Sighting(probe=probe, repeat=repeat, observations=observations, core_wait=core_wait)

    mixed = [run(0, 0, 0.01), run(0, 1, 0.3), run(0, 2, QUIET)]
    noisy = [run(1, 0, 0.3), run(1, 1, 0.2), run(1, 2, 0.0, ())]  # its only quiet run saw nothing
    unknown = [run(2, 0, None), run(2, 1, None)]
    kept = quiet([*mixed, *noisy, *unknown])
    assert kept == [mixed[0], mixed[2], noisy[1], *unknown]


def test_nothing_is_said_of_processes_that_are_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with Contention([process.pid]) as gone, Contention([]) as nobody:
        pass
    assert gone.share is None and nobody.share is None
