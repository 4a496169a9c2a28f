"""Two classes of requests, each with its own SLO; and how many of each meet it, by the database's own SQL."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from results.live import put
from results.record import SLO
from simulators.native.planning.judge import database_of_thread

NAMES = ("first", "second")
GOOD = """
SELECT arrival, coalesce(good, false) AS good, coalesce(e2e, 0.0) AS took, ttft, tpot
FROM request_metrics JOIN requests USING (run_id, request_id) ORDER BY arrival, request_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The second one is a share of the requests; its limits are its own."""

    slos: tuple[SLO, SLO]  # of a good request, by class
    share: float = 0.0  # of requests that are of the second class
    by_priority: bool = False  # whether the first goes first (vLLM's --scheduling-policy priority), or both wait in one queue

    def __post_init__(self) -> None:
        for name, slo, share in zip(NAMES, self.slos, (1 - self.share, self.share), strict=True):
            if share and slo == SLO():
                setting = "slo" if name == NAMES[0] else "second.slo"
                raise ValueError(f"day: the {name} class has no limit, so all its requests are good; give {setting}.ttft or {setting}.tpot")

    @property
    def present(self) -> list[int]:
        """Those that there are."""
        return [number for number, share in enumerate((1 - self.share, self.share)) if share > 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassServed:
    """The requests of one class, in order of arrival. Times in s; NaN: there is none."""

    arrival: NDArray[np.float64]
    good: NDArray[np.bool_]  # whether each meets its SLO
    took: NDArray[np.float64]  # from its arrival to its last token
    ttft: NDArray[np.float64]
    tpot: NDArray[np.float64]


def judged(records: pa.Table, second: NDArray[np.bool_], classes: Classes) -> dict[int, ClassServed]:
    """By class. records: columns of record_table.COLUMNS, in the order of `second`."""
    found = {}
    for number in classes.present:
        connection = database_of_thread()
        put(connection, records.filter(pa.array(second == bool(number))), tokens=None, slo=classes.slos[number], window=None)
        columns = connection.execute(GOOD).fetchnumpy()
        plain = {name: np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan) for name, column in columns.items()}
        found[number] = ClassServed(**{**plain, "good": plain["good"] > 0})  # type: ignore[arg-type]
    return found
