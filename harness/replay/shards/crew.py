"""Runs jobs in processes of their own, each pinned to a CPU, which begin at one moment. One that fails ends all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Generic, Protocol, TypeVar

from results.project.folder import ROOT
from results.project.progress import Progress

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Start = Callable[[], float]  # called when all is prepared; returns second 0, a time.monotonic() value
_LEAD = 0.1  # s from the last worker's preparation to second 0: longer than a word takes to reach them all


class ShardError(RuntimeError):
    """A client process that failed or died; the message says which and why."""


class PinnedJob(Protocol[T_co]):
    """What a worker does. It is pickled, as is what it returns."""

    def __call__(self, *, start: Start, progress: Progress) -> T_co:
        """Prepare, call `start`, wait until second 0, do it."""
        ...


def cpus_for(workers: int) -> list[int]:
    """The CPU that each worker is pinned to: those that this process may use, in turn."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[i % len(allowed)] for i in range(workers)]


def run_together(jobs: Sequence[PinnedJob[T]], progress: Progress | None = None) -> list[T]:
    """What each job returns. time.monotonic() is the same clock in all of them, so second 0 is one moment.

    Raises ShardError when a worker fails or dies; none is left running then, nor when this process is interrupted or killed.
    """
    with ExitStack() as stack:
        workers: list[_Worker[T]] = [stack.enter_context(_worker(f"client process {i} of {len(jobs)}")) for i in range(1, len(jobs) + 1)]
        for worker, job, cpu in zip(workers, jobs, cpus_for(len(jobs)), strict=True):
            worker.say((job, cpu))
        _until(lambda worker: worker.ready, workers, progress)
        epoch = time.monotonic() + _LEAD
        for worker in workers:
            worker.say(epoch)
        _until(lambda worker: bool(worker.answer), workers, progress)
        return [worker.answer[0] for worker in workers]


def _until(reached: Callable[["_Worker[T]"], bool], workers: Sequence["_Worker[T]"], progress: Progress | None) -> None:
    """Listen until all workers have reached it."""
    while missing := {worker.pipe: worker for worker in workers if not reached(worker)}:
        for pipe in wait(list(missing)):
            assert isinstance(pipe, Connection)
            missing[pipe].listen()
        if progress is not None:
            progress(sum(worker.done for worker in workers), sum(worker.all for worker in workers))


class _Worker(Generic[T]):
    """A worker as its parent sees it."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", pipe: "Connection[Any, Any]") -> None:
        self._name, self._process, self.pipe = name, process, pipe
        self.ready = False
        self.answer: tuple[T, ...] = ()  # one, when it has come
        self.done = self.all = 0.0  # as its progress says

    def say(self, what: object) -> None:
        try:
            self.pipe.send(what)
        except OSError:
            self._died()

    def listen(self) -> None:
        """Take in the next that it says."""
        try:
            word, what = self.pipe.recv()
        except (EOFError, OSError):
            self._died()
        if word == "ready":
            self.ready = True
        elif word == "progress":
            self.done, self.all = what
        elif word == "failed":
            raise ShardError(f"{self._name} failed: {what}")
        else:
            self.answer = (what,)

    def _died(self) -> None:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ShardError(f"{self._name} {how} before its requests were answered; the replay is given up")


@contextmanager
def _worker(name: str) -> Iterator[_Worker[Any]]:
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "harness.replay.shards.worker", str(theirs.fileno())]
    # a process group of its own: Ctrl-C is this process's to answer
    with ours, subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], process_group=0) as process:
        theirs.close()
        try:
            yield _Worker(name, process, ours)
        finally:
            process.kill()
