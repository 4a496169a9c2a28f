"""A server's supervisor: a small process between the harness and a server, so that nothing is left running, whatever becomes of
the harness.

Run as a script: `python supervisor.py GRACE CPUS COMMAND...`. It starts COMMAND in a session of its own and waits until COMMAND ends or
its own standard input closes (the harness asks it to stop, or has died: a kill -9 closes pipes too). Then it ends every process that
COMMAND started: SIGTERM, GRACE seconds, SIGKILL. As a subreaper it inherits orphans, so daemons that left the session are found as well.
Its exit code is COMMAND's (128 + signal number when a signal ended it). Standard library only; Linux.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(grace: float, cpus: set[int], command: list[str]) -> int:
    """Run `command` on `cpus` (empty: all) until it ends or standard input closes; leave no process behind; return its exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpus:
            os.sched_setaffinity(0, cpus)

    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=prepare)
    pidfd = os.pidfd_open(child.pid)
    select.select([sys.stdin, pidfd], [], [])
    _end_all(child, grace)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end_all(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ask the child's process group to end, then kill whatever still descends from here, generation by generation."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _reap(child):
        time.sleep(0.02)
    while _reap(child):
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _reap(child: "subprocess.Popen[bytes]") -> list[int]:
    """Collect what has ended and return the children that are left."""
    child.poll()
    for pid in _children():
        if pid != child.pid:
            os.waitpid(pid, os.WNOHANG)
    return _children()


def _children() -> list[int]:
    """Processes whose parent this one is, zombies included."""
    me, found = os.getpid(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()  # state, parent, ...
            except OSError:
                continue  # it ended meanwhile
            if int(after_name[1]) == me:
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), {int(cpu) for cpu in sys.argv[2].split(",") if cpu}, sys.argv[3:]))
