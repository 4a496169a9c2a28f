"""A workload from a real trace: a slice of its rows, with scaled lengths, at its own arrival times or those of an arrival process."""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from workloads.arrivals import Times, check_process, check_rate, draw, scale_to_rate, spread
from workloads.lengths import scaled
from workloads.rows import Row, to_trace
from workloads.sources import Source
from workloads.trace import EPOCH_LIKE, Trace, TraceError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Requests of a file. What was dropped or scaled is counted in the trace's name and logged."""

    name: str  # of the workload, as runs carry it
    source: Source  # the file and its format
    start: float = 0.0  # s of the file that become second 0: rows that arrive earlier are left out
    length: float | None = None  # s: rows that arrive later than this after `start` are left out; None: to the file's end
    scale_input: float = 1.0  # factor on the prompts' tokens, and on their shared blocks, for a smaller engine
    scale_output: float = 1.0  # factor on the output tokens
    # own: the file's times (stretched to the rate, where one is asked); else a process of workloads.arrivals, which needs a rate
    arrivals: Literal["own", "poisson", "gamma", "constant"] = "own"
    burstiness: float = 1.0  # of the gamma process
    spread: float | None = None  # s of the file's clock tick: each own time is drawn uniformly within its tick; None: ticks are kept
    rate: float | None = None  # requests/s, where a run asks for none; None: the file's own
    num_requests: int | None = None  # the first so many of the slice; None: all
    empty: Literal["error", "drop"] = "error"  # what becomes of rows with no input or no output tokens
    # of requests longer than the engine's max_model_len; scale: input and output by one factor, just to fit
    too_long: Literal["error", "drop", "scale"] = "error"

    def __post_init__(self) -> None:
        if self.arrivals != "own":
            check_process(self.arrivals, self.burstiness)
        if self.rate is not None:
            check_rate(self.rate)
        if self.empty not in ("error", "drop"):
            raise ValueError(f"workload.empty must be error or drop, got {self.empty!r}")
        if self.too_long not in ("error", "drop", "scale"):
            raise ValueError(f"workload.too_long must be error, drop or scale, got {self.too_long!r}")
        if self.num_requests is not None and self.num_requests < 1:
            raise ValueError(f"workload.num_requests must be >= 1, got {self.num_requests}")
        if not (self.start >= 0 and (self.length is None or self.length > 0)):
            raise ValueError(f"workload.start must be >= 0 s and workload.length > 0 s, got {self.start} and {self.length}")
        if not (self.scale_input > 0 and self.scale_output > 0):
            raise ValueError(f"workload.scale_input and scale_output must be > 0, got {self.scale_input} and {self.scale_output}")
        if self.spread is not None and not self.spread > 0:
            raise ValueError(f"workload.spread must be > 0 s, got {self.spread}")

    def trace(self, *, rate: float | None, num_requests: int | None, seed: int, max_model_len: int | None = None) -> Trace:
        """The requests. rate: requests/s (None: this workload's own; inf: all at 0 s). num_requests: the first so many (None: all).

        Raises TraceError naming file and line for bad rows, and for fewer rows than asked.
        """
        wanted = self.num_requests if num_requests is None else num_requests
        notes: Counter[str] = Counter()
        rows = list(islice(self._rows(max_model_len, notes), wanted))
        path = Path(self.source.path)
        if not rows:
            raise TraceError(f"{path}: no request is left of it; change workload.start, length, too_long or num_requests")
        if wanted is not None and len(rows) < wanted:
            raise TraceError(f"{path}: {wanted} requests are asked, but there are {len(rows)}; ask for fewer or for a longer slice")
        said = "".join(f", {count} {note}" for note, count in notes.items())
        if said:
            log.warning("%s: %d requests taken%s", path, len(rows), said)
        trace = to_trace(path, rows, self.name + said)
        times = self._times(rows, self.rate if rate is None else rate, np.random.default_rng(seed))
        return trace.with_arrivals(times.tolist())

    def _times(self, rows: list[Row], rate: float | None, rng: np.random.Generator) -> Times:
        if rate is not None:
            check_rate(rate)
        own = [row.arrival for row in rows if row.arrival is not None]
        if self.arrivals != "own" or (rate is not None and np.isinf(rate)):
            if rate is None:
                raise TraceError(f"{self.source.path}: arrivals={self.arrivals} needs a rate; set workload.rate (requests/s)")
            return draw(rng, self.arrivals, rate, len(rows), self.burstiness)
        if len(own) < len(rows):
            raise TraceError(f"{self.source.path}: it has no arrival times; set workload.arrivals to poisson, gamma or constant")
        times = np.array(own)
        if self.spread is not None:
            times = spread(rng, times, self.spread)
        try:
            return times if rate is None else scale_to_rate(times, rate)
        except ValueError as error:
            raise TraceError(f"{self.source.path}: {error}; set workload.arrivals to poisson, gamma or constant") from error

    def _rows(self, max_model_len: int | None, notes: Counter[str]) -> Iterator[Row]:
        """The slice's rows, scaled and fit for the engine; what is left out or changed is counted in `notes`."""
        gone: set[int | None] = set()  # ids of the rows that are left out, which nothing can wait for
        for row in self._slice(gone):
            where = f"{self.source.path}:{row.line}"
            if not gone.isdisjoint(row.after):
                notes["turns behind one left out dropped"] += 1
                gone.add(row.request_id)
                continue
            fewest = min(row.input_tokens, row.output_tokens)
            if fewest == 0 and self.empty == "drop":
                notes["without tokens dropped"] += 1
                gone.add(row.request_id)
                continue
            if fewest < 1:
                raise TraceError(
                    f"{where}: input and output tokens must be >= 1, got {row.input_tokens} and {row.output_tokens}; "
                    "workload.empty=drop leaves out rows of 0 tokens"
                )
            row = self._scaled(row)
            if max_model_len is not None and row.input_tokens + row.output_tokens > max_model_len:
                if self.too_long == "error":
                    raise TraceError(
                        f"{where}: {row.input_tokens} + {row.output_tokens} tokens exceed max_model_len {max_model_len}; "
                        "set workload.too_long to drop or scale, or make all shorter with workload.scale_input and scale_output"
                    )
                notes[f"longer than {max_model_len} tokens {'dropped' if self.too_long == 'drop' else 'scaled'}"] += 1
                if self.too_long == "drop":
                    gone.add(row.request_id)
                    continue
                row = _shortened(row, max_model_len)
            yield row

    def _slice(self, gone: set[int | None]) -> Iterator[Row]:
        """The rows that arrive within the slice, re-based to its start; reads no further than its end. gone: gets those before it."""
        previous = 0.0
        for row in self.source.rows():
            where = f"{self.source.path}:{row.line}"
            if row.arrival is None:
                if self.start or self.length is not None:
                    raise TraceError(f"{where}: it has no arrival times to slice by; leave workload.start and length alone")
                yield row
                continue
            if row.arrival < previous:
                raise TraceError(f"{where}: arrivals must not decrease: {row.arrival} s after {previous} s; sort the rows by arrival")
            if row.arrival >= EPOCH_LIKE:
                raise TraceError(f"{where}: arrival {row.arrival} s is a wall-clock time; subtract the trace's start from every arrival")
            previous = row.arrival
            if self.length is not None and row.arrival >= self.start + self.length:
                return
            if row.arrival >= self.start:
                yield replace(row, arrival=row.arrival - self.start)
            else:
                gone.add(row.request_id)

    def _scaled(self, row: Row) -> Row:
        if self.scale_input == self.scale_output == 1:
            return row
        block_size = row.block_size
        if block_size is not None:
            exact = block_size * self.scale_input
            block_size = round(exact)
            if block_size < 1 or abs(exact - block_size) > 1e-6:
                raise TraceError(
                    f"{self.source.path}: workload.scale_input {self.scale_input} makes its blocks of {row.block_size} tokens "
                    f"{exact:g} tokens long; choose a factor that makes them a whole number"
                )
        tokens = scaled(row.input_tokens, self.scale_input)
        return _with_input(replace(row, output_tokens=scaled(row.output_tokens, self.scale_output), block_size=block_size), tokens)


def _shortened(row: Row, total: int) -> Row:
    """Input and output by one factor, so that together they are at most `total` tokens (each at least 1)."""
    factor = total / (row.input_tokens + row.output_tokens)
    return _with_input(replace(row, output_tokens=max(1, int(row.output_tokens * factor))), max(1, int(row.input_tokens * factor)))


def _with_input(row: Row, tokens: int) -> Row:
    """The row with another prompt length, and only the blocks that it still reaches."""
    blocks = row.blocks[: math.ceil(tokens / row.block_size)] if row.block_size else row.blocks
    return replace(row, input_tokens=tokens, blocks=blocks)
