"""A source with runs of two loads, in a git repository made here, and the entry of the catalogue that names it."""

import os
import subprocess
from pathlib import Path

import pytest

ENTRY = """
_target_: results.catalogue.entry.Entry
name: toy
gpu: A40 48 GB PCIe
runs: 3
origin:
  _target_: results.catalogue.entry.Origin
  repository: {repository}
  commit: {commit}
  licence: null
  paths: [/results/**/trace.csv]
  variable: PLUMBLINE_TOY_GIT
about:
  system: vllm
  version: 0.23.0
  model: llama_3_1_8b
  hardware: h100
split:
  - _target_: results.catalogue.entry.Split
    runs: 'open-(?P<rate>\\d+)rps-(?P<repeat>first|second)'
    workload: poisson
    repeats: [first, second]
  - _target_: results.catalogue.entry.Split
    runs: 'closed-(?P<concurrency>\\d+)'
    workload: loop
    loop: closed
wrong: ['The client is far away.']
converter:
  _target_: results.catalogue.sources.blis_trace.BlisTrace
"""
TIMES = "arrival_time_us,send_time_us,first_chunk_time_us,last_chunk_time_us"
HEADER = f"request_id,status,error_message,server_input_tokens,input_tokens,output_tokens,{TIMES}"
START = 1_782_183_931_000_000  # microseconds since 1970, of the runs
RUNS = ("open/2rps/first", "open/2rps/second", "closed/4", "pilot/1")


def git(folder: Path, *words: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True, env=environ)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with four runs of three requests each, one of which failed, and a file that nobody needs."""
    folder = tmp_path / "source"
    for place, run in enumerate(RUNS):
        lines = [
            f"{n},ok,,{100 + n},128,5,{400_000 + 500_000 * n},{START + 500_000 * n + 300 * (n != 1)},"
            f"{START + 500_000 * n + 60_000 + place},{START + 500_000 * n + 160_000}"
            for n in (1, 0)
        ]
        failed = f"2,error,connection reset,,128,5,{400_000 + 1_500_000},{START + 1_500_000},0,0"
        (folder / "results" / run).mkdir(parents=True)
        (folder / "results" / run / "trace.csv").write_text("\n".join([HEADER, *lines, failed]) + "\n")
    (folder / "video.bin").write_bytes(b"0" * 1000)
    git(folder, "init", "-q")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "the runs")
    return folder


@pytest.fixture
def entry_text(source: Path) -> str:
    """The YAML of the entry."""
    return ENTRY.format(repository=source, commit=git(source, "rev-parse", "HEAD"))
