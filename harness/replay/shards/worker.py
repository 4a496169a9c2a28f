"""One of several client processes: `python -m harness.replay.shards.worker FD`, with a pipe to its parent (crew.py) as FD.

It gets (job, CPU), says `ready` when the job is prepared, gets second 0, and says what the job returned, or why it failed.
"""

import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

_PR_SET_PDEATHSIG = 1


def main(parent: "Connection[Any, Any]") -> int:
    """Do the job; return the exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever becomes of the parent, nothing is left sending

    def start() -> float:
        parent.send(("ready", None))
        epoch: float = parent.recv()
        return epoch

    try:
        job, cpu = parent.recv()
        os.sched_setaffinity(0, {cpu})
        answer = job(start=start, progress=lambda done, total: parent.send(("progress", (done, total))))
        parent.send(("answer", answer))
    except (EOFError, BrokenPipeError):  # the parent has gone
        return 1
    except (RuntimeError, ValueError, OSError) as error:  # a defect's traceback goes to standard error
        parent.send(("failed", str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
