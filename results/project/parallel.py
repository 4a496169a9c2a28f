"""Work on many items, several at a time: the results in the items' order, as they come."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from results.project.progress import Progress, each

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R], items: Sequence[T], progress: Progress | None, *, weight: Callable[[T], float]
) -> Iterator[tuple[T, R]]:
    """Each item with its result, as many at a time as there are processors, in threads. progress, weight: as of `each`.

    What an item raises is raised in its turn; items that nobody has begun are then left alone.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        results = pool.map(work, items)
        yield from zip(each(items, progress, weight=weight), results, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
