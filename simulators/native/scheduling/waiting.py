"""Waiting queues: who is admitted next. First come, first served, or by priority."""

import heapq
from collections import deque
from typing import Protocol

from simulators.native.sequence import Sequence


class Waiting(Protocol):
    """Sequences that wait for admission, in the order in which they are to be admitted. `peek` and `pop` need one to be there."""

    def __len__(self) -> int: ...

    def push(self, sequence: Sequence) -> None:
        """A sequence has arrived."""
        ...

    def put_back(self, sequence: Sequence) -> None:
        """A sequence comes back (preempted, or skipped in this step): it goes to the front of those that the order puts level with it."""
        ...

    def peek(self) -> Sequence:
        """The next one, left where it is."""
        ...

    def pop(self) -> Sequence:
        """The next one, taken out."""
        ...

    def remove(self, sequence: Sequence) -> None:
        """Take out this sequence, wherever it is."""
        ...


class FirstComeFirstServed:
    """In the order of arrival."""

    def __init__(self) -> None:
        self._queue: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, sequence: Sequence) -> None:
        """See Waiting."""
        self._queue.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """See Waiting."""
        self._queue.appendleft(sequence)

    def peek(self) -> Sequence:
        """See Waiting."""
        return self._queue[0]

    def pop(self) -> Sequence:
        """See Waiting."""
        return self._queue.popleft()

    def remove(self, sequence: Sequence) -> None:
        """See Waiting."""
        self._queue.remove(sequence)


class ByPriority:
    """The lowest priority number first; of equal ones the earlier arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, sequence: Sequence) -> None:
        """See Waiting."""
        heapq.heappush(self._heap, (sequence.priority, sequence.arrival, sequence.index, sequence))

    put_back = push

    def peek(self) -> Sequence:
        """See Waiting."""
        return self._heap[0][-1]

    def pop(self) -> Sequence:
        """See Waiting."""
        return heapq.heappop(self._heap)[-1]

    def remove(self, sequence: Sequence) -> None:
        """See Waiting."""
        self._heap = [entry for entry in self._heap if entry[-1] is not sequence]
        heapq.heapify(self._heap)
