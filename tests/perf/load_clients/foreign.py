"""The other clients: how each is started on the common schedule, and what it reports of each request's time to the first token."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hydra.utils import instantiate

from results.project.folder import ROOT
from tests.choices import settings_of
from tests.perf.clients import INPUT, OUTPUT, Floats
from workloads.trace import Trace

NO_DATASETS = 'def load_dataset(*_, **__): raise ImportError("no datasets here")\n'  # SGLang imports them for its sets of images


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A client of somebody else's."""

    name: str
    environment: str  # under .envs
    program: str  # in its bin/
    command: Callable[[Trace, str, Path], Sequence[str]]  # (schedule, server, scratch folder) to its arguments
    ttfts: Callable[[Path], Floats]  # s from sending to the first token, in order of sending, by what it wrote there; NaN: it has none
    scheduled: bool  # whether it replays the given schedule; else it draws a Poisson one of its own at the same rate
    server: Sequence[str] = ("--tokens", str(OUTPUT))  # arguments of the null server
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def executable(self) -> Path:
        """Where it is, when it is installed."""
        return ROOT / ".envs" / self.environment / "bin" / self.program


def model(scratch: Path) -> str:
    """The folder of a model, for its tokenizer."""
    return str(instantiate(settings_of("model", "tiny")).folder(scratch / "models"))


def _lines(path: Path, trace: Trace, row: Callable[[float], Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row(request.arrival)) + "\n" for request in trace))
    return str(path)


def _sglang(trace: Trace, url: str, scratch: Path) -> list[str]:
    (scratch / "stubs").mkdir(exist_ok=True)
    (scratch / "stubs" / "datasets.py").write_text(NO_DATASETS)
    folder = model(scratch)
    options = {
        "backend": "sglang-oai", "base-url": url, "model": folder, "tokenizer": folder, "dataset-name": "random-ids",
        "random-input-len": INPUT, "random-output-len": OUTPUT, "random-range-ratio": 1, "num-prompts": len(trace),
        "request-rate": f"{trace.rate:.3f}", "warmup-requests": 0, "ready-check-timeout-sec": 0, "output-file": scratch / "sglang.jsonl",
    }  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["-m", "sglang.benchmark.serving", *words, "--output-details", "--disable-tqdm"]


def _sglang_ttfts(scratch: Path) -> Floats:
    return np.array(json.loads((scratch / "sglang.jsonl").read_text().splitlines()[-1])["ttfts"], float)


def _aiperf(trace: Trace, url: str, scratch: Path) -> list[str]:
    text = " ".join("abcdefgh"[i % 8] for i in range(INPUT))
    path = _lines(scratch / "aiperf.jsonl", trace, lambda t: {"timestamp": t * 1e3, "text_input": text, "output_length": OUTPUT})
    options = {
        "model": "null", "url": url, "endpoint-type": "completions", "tokenizer": model(scratch), "input-file": path,
        "custom-dataset-type": "mooncake-trace", "output-artifact-dir": str(scratch / "aiperf"), "ui": "none",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    flags = ("streaming", "fixed-schedule", "use-server-token-count", "no-server-metrics", "no-gpu-telemetry")
    return ["profile", *words, *(f"--{flag}" for flag in flags)]


def _aiperf_ttfts(scratch: Path) -> Floats:
    rows = [json.loads(line) for line in (scratch / "aiperf" / "profile_export.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: int(row["metadata"]["request_start_ns"]))
    return np.array([row["metrics"]["time_to_first_token"]["value"] for row in rows]) / 1e3


def _guidellm(trace: Trace, url: str, scratch: Path) -> list[str]:
    row = {"input_length": INPUT, "output_length": OUTPUT}
    path = _lines(scratch / "guidellm.jsonl", trace, lambda t: {"timestamp": t, **row})
    options = {
        "backend": f"kind=openai_http,target={url},request_format=/v1/completions,model=tiny",
        "profile": "kind=replay",
        "data": f"kind=trace_synthetic,source.kind=json_file,source.path={path}",
        "tokenizer": f"kind=huggingface_auto,model={model(scratch)}",
        "output": f"kind=json,path={scratch / 'guidellm.json'}",
    }
    return ["run", *(word for name, value in options.items() for word in (f"--{name}", value)), "--disable-progress"]


def _guidellm_ttfts(scratch: Path) -> Floats:
    (benchmark,) = json.loads((scratch / "guidellm.json").read_text())["benchmarks"]
    every = [row for kind in ("successful", "errored", "incomplete") for row in benchmark["requests"].get(kind, ())]
    every.sort(key=lambda row: float(row["request_start_time"] or np.inf))
    return np.array([row["time_to_first_token_ms"] for row in every], float) / 1e3  # None becomes NaN


OFFLINE = {"HF_HUB_OFFLINE": "1"}
SGLANG = Foreign(
    name="SGLang bench",
    environment="sglang_cpu",
    program="python",
    command=_sglang,
    ttfts=_sglang_ttfts,
    scheduled=False,
    server=("--tokens", str(OUTPUT), "--fault", "no_usage"),  # it does not ask for usage, and fails at an event without a choice
    environ=OFFLINE | {"PYTHONPATH": "stubs"},
)
CLIENTS = (
    SGLANG,
    Foreign(
        name="SGLang bench --rust-client",
        environment=SGLANG.environment,
        program=SGLANG.program,
        command=lambda *about: [*_sglang(*about), "--rust-client"],
        ttfts=_sglang_ttfts,
        scheduled=False,
        server=SGLANG.server,
        environ=SGLANG.environ,
    ),
    Foreign(
        name="AIPerf", environment="aiperf", program="aiperf", command=_aiperf, ttfts=_aiperf_ttfts, scheduled=True,
    ),
    Foreign(
        name="GuideLLM, 1 worker",
        environment="guidellm",
        program="guidellm",
        command=_guidellm,
        ttfts=_guidellm_ttfts,
        scheduled=True,
        environ=OFFLINE | {"GUIDELLM__MAX_WORKER_PROCESSES": "1"},
    ),
)  # fmt: skip


def environ(client: Foreign) -> dict[str, str]:
    """Of its process."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(client.environ)
