"""When requests were sent, where a file has latencies but no start times. Only what the load itself fixes is reconstructed.

With an infinite rate nothing is drawn: either all requests are sent at once, or at most N run, and each of the others, in the order of the
file, is sent when one of those that run ends (the client waits at an asyncio.Semaphore, which is first in, first out). A finite rate draws
its gaps at random, after the prompts, from the same generator: they cannot be had again from the file.
"""

import heapq
from collections.abc import Sequence

from results.recordings.recording import RecordingError

# How far the last end may be from what the file says, which is the client's own time between requests: of the duration, and s at least.
APART, AT_LEAST = 0.01, 0.01


def reconstructed(where: str, ends: Sequence[float], *, rate: float, at_most: int | None, duration: float, failed: int) -> list[float]:
    """Seconds from the benchmark's start at which requests were sent. ends: seconds from a request's sending to its last token.

    rate: requests/s. at_most: in flight at once (None: any number). duration: s of the whole benchmark, as the file has it.
    Raises RecordingError where it cannot be told exactly, with the reason.
    """
    lacks = f"{where}: it has no start times"
    if rate != float("inf"):
        raise RecordingError(f"{lacks}, and at {rate:g} requests/s its gaps were drawn at random; they cannot be told from the file")
    if failed:
        raise RecordingError(f"{lacks}, and how long the {failed} failed requests took is not in it; so nothing says when others were sent")
    running: list[float] = []
    starts = []
    for end in ends:
        start = heapq.heappop(running) if at_most is not None and len(running) == at_most else 0.0
        starts.append(start)
        heapq.heappush(running, start + end)
    last = max(start + end for start, end in zip(starts, ends, strict=True))
    if abs(duration - last) > max(APART * duration, AT_LEAST):
        raise RecordingError(
            f"{lacks}, and set one after the other its requests end after {last:.3f} s, where the benchmark took {duration:.3f} s; "
            f"more than {APART:.0%} apart, so the client did something else"
        )
    return starts
