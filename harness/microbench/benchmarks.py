"""Micro-benchmarks of single operations, at the grid of Vidur's own profiling scripts: the campaign's tasks of kind 'operations'.

They run with the engine's interpreter (its torch, its kernels) and without a server, since they must have the device to themselves. The
corners of each grid come first and are timed whatever the budget. The other points follow in an order in which the first few already
cover the whole grid evenly.
Grid: microsoft/vidur, vidur/profiling/utils/__init__.py (get_num_tokens_to_profile, get_attention_input_combinations).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import environment
from harness.engine import EngineError, LocalEngine
from harness.engines import server
from results.operations import COLUMNS, Operations
from results.project.folder import ROOT

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

KINDS = ("linear", "prefill", "decode")
SOURCE = (
    "Micro-benchmarks of single operations of one layer, in the order of a layer, at the points of Vidur's own profiling scripts: CUDA "
    "events with the stream held ahead of the host on a GPU, perf_counter on a CPU. The weights and the cache hold random numbers."
)
GOLDEN = (5**0.5 - 1) / 2
BLOCK_SIZE = 16  # tokens of a KV block where the engine sets none
Point = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """What is timed, and for how long."""

    budget: float  # s of timing; what one kind leaves of its share goes to the next
    start: float  # s that the interpreter takes to begin
    shares: Sequence[float]  # of the budget: linear operations, attention of prompts, attention of decodes
    tokens: int  # of a step, at most
    chunk: int  # tokens of a piece of a prompt, at most
    context: int  # tokens of a sequence, at most
    batch: int  # sequences that decode together, at most
    kv_tokens: int  # tokens in the cache at a time, at most
    warmup: int  # passes over a point before those that count
    active: int  # passes over a point that count

    def __post_init__(self) -> None:
        for name in ("budget", "start", "tokens", "chunk", "context", "batch", "kv_tokens", "warmup", "active"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"operations.{name} must be >= 1, got {getattr(self, name)}")
        if len(self.shares) != len(KINDS) or min(self.shares) <= 0:
            raise ValueError(f"operations.shares must be {len(KINDS)} numbers > 0, got {list(self.shares)}")
        if self.context > self.kv_tokens:
            raise ValueError(f"operations.kv_tokens must hold a sequence of operations.context={self.context}, got {self.kv_tokens}")

    def points(self, block_size: int) -> dict[str, list[Point]]:
        """The points of each kind, in the order in which they are timed: (tokens), (chunk, context), (batch, context)."""
        rng = np.random.default_rng(0)
        return {
            "linear": _ordered([(n,) for n in token_grid(self.tokens)], rng),
            "prefill": _ordered(prompt_grid(self.chunk, self.context), rng),
            "decode": _ordered(decode_grid(self.batch, self.context, self.kv_tokens, block_size), rng),
        }

    def measure(self, engine: LocalEngine, model: Mapping[str, Any], hardware: str, log: Path, facts: Mapping[str, Any]) -> Operations:
        """Time them with the interpreter and the environment variables of `engine`. log: of the driver; facts: the provenance.

        Raises EngineError, in one line, when they cannot be timed.
        """
        started, block_size = datetime.now(UTC), engine.block_size or BLOCK_SIZE
        points = self.points(block_size)
        ends = np.cumsum(self.shares) / sum(self.shares) * self.budget
        asked = {
            "model": dict(model),
            "tensor_parallel": engine.tensor_parallel,
            "block_size": block_size,
            "kv_tokens": self.kv_tokens,
            "points": points,
            "always": {kind: len(_corners(found)) for kind, found in points.items()},
            "deadlines": dict(zip(KINDS, ends.tolist(), strict=True)),
            "warmup": self.warmup,
            "active": self.active,
        }
        told = self._run(engine, asked, log)
        return Operations(
            operations_id=f"{started:%Y%m%dT%H%M%S}-operations-{hardware}",
            model=dict(model),
            hardware=hardware,
            tensor_parallel=engine.tensor_parallel,
            block_size=block_size,
            kernels=told["kernels"],
            times=_frame(told["times"]),
            source=SOURCE,
            started_at=started.isoformat(),
            wall_s=told["seconds"],
            wanted={kind: len(points[kind]) for kind in KINDS},
            provenance={
                "settings": asdict(self),
                **{name: told[name] for name in ("device", "torch", "threads", "dtype")},
                **facts,
            },
        )

    def _run(self, engine: LocalEngine, asked: Mapping[str, Any], log: Path) -> dict[str, Any]:
        """Run the driver on what is asked of it; return its result."""
        python = environment.interpreter(engine.system, engine.environment, engine.python)
        job, out = log.with_suffix(".job.json"), log.with_suffix(".out.json")
        try:
            job.write_text(json.dumps({**asked, "out": str(out)}))
            server.finish(
                [str(python), "-m", "harness.microbench.driver", str(job)],
                name="operations",
                env=server.environ({key: str(value) for key, value in engine.env.items()}),
                log=log,
                limit=3 * (self.budget + self.start) + 60,
                cpus=engine.cpus,
                cwd=ROOT,
            )
            if not out.is_file():
                raise EngineError(f"operations: the driver ended without a result; its log is {log}")
            result: dict[str, Any] = json.loads(out.read_text())
        finally:
            job.unlink(missing_ok=True)
            out.unlink(missing_ok=True)
        return result


def token_grid(most: int) -> list[int]:
    """Vidur's numbers of tokens of a step, up to `most`."""
    bands = [
        (8, 1024, 8),
        (1024, 2048, 16),
        (2048, 4096, 32),
        (4096, 8192, 64),
        (8192, 16384, 128),
        (16384, 32768, 256),
        (32768, 65536, 512),
    ]
    space = {1, 2, 4} | {n for low, high, step in bands for n in range(low, high + 1, step)}
    return sorted(n for n in space if n <= most)


def prompt_grid(longest_chunk: int, longest: int) -> list[Point]:
    """Vidur's (chunk, context before it): whole prompts, and prompts cut into equal chunks; chunks up to `longest_chunk`."""
    bands = [(64, 128, 16), (128, 1024, 32), (1024, 4096, 64), (4096, 16384, 128), (16384, 65536, 256)]
    chunks = sorted({n for low, high, step in bands for n in range(low, high + 1, step) if n <= min(longest_chunk, longest)})
    pieces = {(chunk, part * chunk) for chunk in chunks for part in range(longest // chunk)}
    return sorted(pieces | {(n, 0) for n in _lengths(longest) if n <= longest_chunk})


def decode_grid(most: int, longest: int, kv_tokens: int, block_size: int) -> list[Point]:
    """Vidur's (sequences, context of each), as far as the cache holds them in whole blocks."""
    batches = [b for b in (*range(1, 129), *range(136, 1025, 8)) if b <= most]
    return [(b, n) for b in batches for n in _lengths(longest) if b * (-(-(n + 1) // block_size) * block_size) <= kv_tokens]


def _lengths(longest: int) -> list[int]:
    bands = [(32, 1024, 32), (1024, 4096, 64), (4096, 65536, 256)]
    return sorted({n for low, high, step in bands for n in range(low, high + 1, step) if n < longest})


def _corners(points: Sequence[Point]) -> list[Point]:
    """Each axis at its smallest and largest, the other where it then reaches: without them nothing bounds the others."""
    corners: list[Point] = []
    for axis in range(len(points[0])):
        for end in (min, max):
            at = end(point[axis] for point in points)
            there = [point for point in points if point[axis] == at]
            corners += [min(there), max(there)]
    return list(dict.fromkeys(corners))


def _ordered(points: Sequence[Point], rng: np.random.Generator) -> list[Point]:
    """The corners of the grid, then all others; those of a plane at random."""
    first = _corners(points)
    rest = [point for point in points if point not in set(first)]
    along = np.argsort(np.arange(len(rest)) * GOLDEN % 1)  # any beginning of it lies evenly on a line
    return first + [rest[i] for i in (along if len(points[0]) == 1 else rng.permutation(len(rest)))]


def _frame(rows: Sequence[Sequence[Any]]) -> "pd.DataFrame":
    """The driver's rows, one per point and operation."""
    import pandas as pd  # here: it takes long to import

    found = []
    for kind, point, operation, *statistics in rows:
        one, context = (*point, 0)[:2]
        place = {"linear": (one, 0, 0, 0), "prefill": (one, 1, one, context), "decode": (one, one, 0, context)}[kind]
        found.append((operation, *place, *statistics))
    return pd.DataFrame(found, columns=list(COLUMNS))
