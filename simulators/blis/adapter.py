"""BLIS (inference-sim/inference-sim, Apache-2.0), unedited, from a binary that the user builds: `blis replay` on the requests as sent.

Its step times are of two kinds: `trained-physics`, coefficients that its authors fitted to measurements, and `roofline`. Both are for
H100, A100 and L40S only; on other hardware it is not available. It has no way to take step times from a profile, so no calibrated track.

Tracks. shipped: its own defaults (2,048 tokens and 256 sequences a step, KV cache by its memory model). matched: the engine's limits.

Read `Blis.simulate` top to bottom. What goes in and comes out: files.py.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from results.profile import Profile
from results.project.folder import ROOT
from results.record import Run, Track
from simulators.blis.files import SYSTEM, microseconds, read_records, write_trace
from simulators.errors import NotAvailable
from simulators.foreign.program import foreign_run, run_program
from simulators.inputs import known_limits, one_engine, sent_trace
from simulators.simulator import Coverage
from workloads.trace import Trace

BLOCK_SIZE = 16  # tokens; its default, and vLLM's, where a run does not say
BEYOND = 10**12  # µs behind the last arrival: it stops at its horizon, and what is not done then is lost
FILES = ("defaults.yaml", "hardware_config.json")  # of its repository; without them it has no coefficients


@dataclass(frozen=True, kw_only=True)
class Blis:
    """The settings of conf/simulator/blis.yaml, which says more of each; the constructor only checks them."""

    binary: str | None  # path of `blis`, absolute or from the project's folder; None: it is not available
    repository: str | None  # folder with its defaults.yaml and hardware_config.json; None: the binary's own
    backend: Literal["trained-physics", "roofline"]  # where its step times are from
    devices: Mapping[str, str]  # name in conf/hardware to its own name of the GPU
    limit: float  # s of CPU time for a simulation

    environment: ClassVar[str | None] = None
    coverage: ClassVar[Coverage] = Coverage(
        chunked_prefill="yes",
        prefix_caching="no",
        kv_limit="yes",
        max_num_seqs="yes",
        token_budget="yes",
        preemption="yes",
        context_dependent_decode="yes",
        tensor_parallel="yes",
        pipeline_parallel="no",
        disaggregation="no",
        frontend_cost="partly",
        token_times="no",
        gqa="yes",
        quantisation="partly",
        notes="scheduler: one like vLLM's, whatever the engine; prefix_caching: it has some, but prompts are given to it as new ones; "
        "disaggregation, data and expert parallelism: it has settings for them, which are not used here; frontend_cost: in the "
        "coefficients of trained-physics, for all alike; quantisation: by its roofline; "
        "experts: a step of its trained-physics reads the weights of all, a lone token of its roofline fewer than it passes",
    )

    def __post_init__(self) -> None:
        if self.backend not in ("trained-physics", "roofline"):
            raise ValueError(f"simulator blis: backend must be trained-physics or roofline, got {self.backend!r}")
        if not self.limit > 0:
            raise ValueError(f"simulator blis: limit must be > 0 s, got {self.limit}")

    @property
    def system(self) -> str:
        """Its name in the database: each kind of step times is scored as a system of its own."""
        return SYSTEM if self.backend == "trained-physics" else f"{SYSTEM}_roofline"

    def tracks(self) -> tuple[Track, ...]:
        """See Simulator."""
        return ("shipped", "matched")

    def simulate(self, measured: Run, *, track: Track, profile: Profile | None, scratch: Path) -> Run:
        """Replay the requests that `measured` really sent. Raises SimulatorError, or NotAvailable: one line, what, where, what to do."""
        binary, files = self._program()
        trace = sent_trace(self.system, measured)
        device = self._device(measured)
        log, results = scratch / "log", scratch / "results.json"
        header, rows = write_trace(trace, scratch)
        model = scratch / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(measured.config.get("model") or {}))
        settings = {
            "latency-model": self.backend,
            "hardware": device,
            "tp": measured.limits.tensor_parallel,
            "horizon": _horizon(trace),
            **self._limits(measured, track),
        }
        words = {"trace-header": header, "trace-data": rows, "results-path": results, "model": measured.model, "model-config-folder": model}
        words |= {"defaults-filepath": files["defaults.yaml"], "hardware-config": files["hardware_config.json"], **settings}
        usage = run_program(
            self.system, [binary, "replay", *(f"--{name}={value}" for name, value in words.items())], cwd=scratch, log=log, limit=self.limit
        )
        version = _version(binary)
        return foreign_run(
            self,
            measured,
            read_records(results, trace, log),
            usage,
            version=version,
            track=track,
            settings={"engine": settings, "times_from": f"its own {self.backend}, of {device}"},
            provenance={"blis": version, "files": {name: _digest(path) for name, path in files.items()}},
        )

    def _program(self) -> tuple[Path, dict[str, Path]]:
        """The binary, and the files that it reads. Raises NotAvailable naming what is missing."""
        if self.binary is None:
            raise NotAvailable(
                "blis: no binary; build one from github.com/inference-sim/inference-sim (`go build -o blis .` in a clone) and set "
                "simulators.blis.binary, or PLUMBLINE_BLIS, to its path"
            )
        binary = ROOT / self.binary
        folder = binary.parent if self.repository is None else ROOT / self.repository
        files = {name: folder / name for name in FILES}
        if missing := [str(path) for path in (binary, *files.values()) if not path.is_file()]:
            raise NotAvailable(
                f"blis: no file {', '.join(missing)}; simulators.blis.binary must be the program, simulators.blis.repository "
                "a clone of github.com/inference-sim/inference-sim"
            )
        return binary, files

    def _device(self, measured: Run) -> str:
        """Its name of the run's GPU. Raises NotAvailable for one that it has no coefficients of, and for several engines."""
        if measured.hardware not in self.devices:
            raise NotAvailable(f"blis: it has no coefficients of {measured.hardware}, only of {', '.join(self.devices)}")
        one_engine(self.system, measured)
        return self.devices[measured.hardware]

    def _limits(self, measured: Run, track: Track) -> dict[str, int]:
        """The flags of the engine's limits. Raises NotAvailable naming those that the run does not say."""
        if track == "shipped":
            return {}
        said = measured.limits
        kv_tokens, sequences, budget = known_limits(self.system, measured, ("kv_tokens", "max_num_seqs", "max_num_batched_tokens"))
        block = said.block_size or BLOCK_SIZE
        flags = {
            "total-kv-blocks": kv_tokens // block,
            "block-size-in-tokens": block,
            "max-num-seqs": sequences,
            "max-num-batched-tokens": budget,
        }
        return flags if said.max_model_len is None else {**flags, "max-model-len": said.max_model_len}


def _horizon(trace: Trace) -> int:
    """When it shall stop, µs: so late that no request is lost."""
    return microseconds(trace.requests[-1]) + BEYOND


def _version(binary: Path) -> str:
    """It does not say its version, so what was run is named by its content."""
    return f"sha256-{_digest(binary)[:12]}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
