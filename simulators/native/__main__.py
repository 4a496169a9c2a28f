"""`python -m simulators.native TRACE --model NAME --hardware NAME`: serve a trace on a simulated engine and print its latencies.

With --profile FOLDER the step times, the front-end cost and the limits are those of the engine that was profiled; without, they
come from the sizes of the model and the hardware.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from results import database
from results.__main__ import LATENCIES, RATES
from results.database import DatabaseError
from results.profile import Profile
from results.record import EngineLimits, Run
from results.store import StoreError, write_run
from simulators.native.native import VERSION, Native, longest_request, provenance
from simulators.native.resolve import NULL_BLOCKS, limits_of
from simulators.native.scheduler import Limits
from simulators.system import SimulatorError
from workloads.files import read_csv, read_parquet
from workloads.trace import Trace, TraceError

CONF = Path(__file__).resolve().parents[2] / "conf"
OVERRIDES = ("kv_blocks", "max_num_seqs", "max_num_batched_tokens", "in_flight")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f"{self.prog}: {message}; --help tells more")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        predict(options, Console(width=None if sys.stdout.isatty() else 200, highlight=False))
    except (SimulatorError, TraceError, StoreError, DatabaseError, ValueError, OSError) as error:
        sys.exit(f"native: {' '.join(str(error).removeprefix('native: ').split())}")


def predict(options: argparse.Namespace, console: Console) -> None:
    """Read, simulate, print; keep the run when --out says where."""
    trace = _trace(options.trace, options.rate)
    model, hardware = _choice("model", options.model)["config"], _choice("hardware", options.hardware)
    native: Native = instantiate(OmegaConf.load(CONF / "simulator" / "native.yaml"))
    profile = Profile.read(options.profile) if options.profile else None
    limits, tensor_parallel = _limits(options, native, trace, profile, model, hardware)
    outcome = native.predict(trace, limits, model=model, hardware=hardware, tensor_parallel=tensor_parallel, profile=profile)
    started = datetime.now(UTC)
    run = Run(
        run_id=f"{started:%Y%m%dT%H%M%S}-native-{trace.name}",
        kind="simulated",
        track="calibrated" if profile else "shipped",
        system=native.system,
        version=VERSION,
        workload=trace.name,
        model=options.model,
        hardware=options.hardware,
        trace=trace,
        records=outcome.served.records,
        limits=_told(limits, tensor_parallel),
        started_at=started.isoformat(timespec="seconds"),
        wall_s=outcome.served.seconds,
        rate=trace.rate,
        config={"model": model, "hardware": hardware, "simulator": {"settings": dataclasses.asdict(native), **outcome.config()}},
        provenance=provenance(),
    )
    for line in outcome.lines():
        console.print(line)
    with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
        root = options.out or Path(scratch) / "runs"
        folder = write_run(root, run)
        database.build([root], Path(scratch) / "runs.duckdb")
        _show(console, Path(scratch) / "runs.duckdb", run.run_id)
    if options.out:
        console.print(f"run folder: {folder}")


def _show(console: Console, path: Path, run_id: str) -> None:
    """The run's metrics, as the database defines them."""
    with database.connect(path) as connection:
        for names, query in ((["latency (ms)", "mean", "p50", "p90", "p95", "p99"], LATENCIES), (["rate", ""], RATES)):
            table = Table(*names)
            for row in connection.execute(query, {"run_id": run_id}).fetchall():
                table.add_row(*("-" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row))
            console.print(table)


def _trace(path: Path, rate: float | None) -> Trace:
    trace = read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    if rate is None:
        return trace
    if rate <= 0 or trace.rate is None:
        raise ValueError(f"--rate {rate} requests/s: it must be above 0, and the trace's arrivals must not all be at one instant")
    return trace.with_arrivals(r.arrival * trace.rate / rate for r in trace)


def _choice(group: str, name: str) -> dict[str, Any]:
    """conf/<group>/<name>.yaml, as plain values."""
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (CONF / group).glob("*.yaml"))
        near = get_close_matches(name, known, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"--{group} {name}: unknown; {hint}known: {', '.join(known)}")
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[assignment]
    return values


def _limits(
    options: argparse.Namespace, native: Native, trace: Trace, profile: Profile | None, model: dict[str, Any], hardware: dict[str, Any]
) -> tuple[Limits, int]:
    """The engine's limits with what the command line changes of them, and its devices."""
    if profile is not None:
        limits, tensor_parallel = limits_of(profile.limits, {}, f"profile {profile.profile_id}"), profile.limits.tensor_parallel
    else:
        tensor_parallel = options.tensor_parallel
        longest = options.max_model_len or longest_request(trace)
        limits = native.default_limits(model, hardware, tensor_parallel=tensor_parallel, max_model_len=longest)
    changes = {name: value for name in OVERRIDES if (value := getattr(options, name)) is not None}
    return dataclasses.replace(limits, **changes), tensor_parallel


def _told(limits: Limits, tensor_parallel: int) -> EngineLimits:
    """The limits as a run has them."""
    return EngineLimits(
        kv_tokens=(limits.kv_blocks + NULL_BLOCKS) * limits.block_size,
        block_size=limits.block_size,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_model_len=limits.max_model_len,
        chunked_prefill=limits.chunked_prefill,
        prefix_caching=limits.prefix_caching,
        tensor_parallel=tensor_parallel,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m simulators.native", description=__doc__)
    parser.add_argument("trace", type=Path, help="a trace in CSV or Parquet, as workloads/files.py reads it")
    parser.add_argument("--model", required=True, help="a name in conf/model")
    parser.add_argument("--hardware", required=True, help="a name in conf/hardware")
    parser.add_argument("--profile", type=Path, help="folder of a measured profile: its step times, front-end cost and limits")
    parser.add_argument("--rate", type=float, help="requests/s: stretch the trace's arrivals to this mean rate")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="devices (1)")
    parser.add_argument("--max-model-len", type=int, help="tokens of one request (the trace's longest)")
    for name in OVERRIDES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the engine's")
    parser.add_argument("--out", type=Path, help="folder to keep the run in, e.g. results/runs")
    return parser


if __name__ == "__main__":
    main()
