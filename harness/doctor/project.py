"""What belongs to the project: its environments, the simulators that are git repositories, traces and recordings."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.doctor.check import Check
from harness.environment_state import CORE, state

COSTS = {  # of an environment, besides that it is made when first used
    "vllm_cpu": "engine=vllm_cpu, what `make bench` measures without a GPU",
    "vllm": "engine=vllm, what `make bench` measures on a GPU",
    "sglang_cpu": "engine=sglang_cpu",
    "vidur": "simulator=[vidur], one of the two that `make bench` runs",
    "aisimulate": "simulator=[aisimulate]",
    "aisimulate_0_13": "simulator=[aisimulate] on engines of 2026",
    "splitwise_sim": "simulator=[splitwise_sim]",
    "distserve_sim": "simulator=[distserve_sim]",
    "frontier": "simulator=[frontier]",
    "sglang_simulator": "simulator=[sglang_simulator]",
    "llmservingsim": "simulator=[llmservingsim]",
    "aic": "calibration=aic",
    "aiperf": "AIPerf beside our client (docs/client.md)",
    "guidellm": "GuideLLM beside our client (docs/client.md)",
    "launchers": "hydra/launcher=ray",
    "moto": "the tests of object storage",
    "nixl": "engine=vllm_pd",
}
SIZES = {CORE: 1.0, "vllm_cpu": 2.5, "vllm": 12.0, "sglang_cpu": 2.0, "sglang_simulator": 2.0}  # GB on disk
SIZE = 0.6  # GB of any other
RUNS = 0.5  # GB for runs, logs and the database


def bench_environments(root: Path, *, on_gpu: bool) -> list[str]:
    """The environments that `make bench` needs: the core's, the engine's and those of the simulators that conf/bench.yaml names."""
    text = (root / "conf" / "bench.yaml").read_text(encoding="utf-8")
    found = re.search(r"^  - simulator: \[(.*?)\]", text, re.MULTILINE)
    simulators = [name.strip() for name in found[1].split(",")] if found else []
    engine = "vllm" if on_gpu else "vllm_cpu"
    return [CORE, *(name for name in (engine, *simulators) if (root / "conf" / "envs" / f"{name}.txt").is_file())]


def environments(root: Path, needed: Sequence[str], *, index: bool) -> Iterator[Check]:
    """Each environment of conf/envs. needed: by `make bench`. index: whether a package index answers, so that one can be made."""
    names = sorted(path.stem for path in (root / "conf" / "envs").glob("*.txt"))
    for name in sorted(names, key=lambda name: (name != CORE, name not in needed, name)):
        now = state(name, root)
        if now == "made":
            yield Check(name=f"environment {name}", state="there", says="made")
            continue
        says = "missing" if now == "missing" else "stale (conf/envs or Python has changed since)"
        use = "everything" if name == CORE else COSTS.get(name, "whatever names it")
        if index:
            yield Check(name=f"environment {name}", state="missing", says=says, costs=f"made when first used, for {use}")
        else:
            costs = f"no package index answers to make it from, so there is no {use}" if name != CORE else "nothing works before it is made"
            yield Check(name=f"environment {name}", state="needed" if name in needed else "missing", says=says, costs=costs)


def room(root: Path, needed: Sequence[str]) -> float:
    """GB that `make bench` will still install and write."""
    return RUNS + sum(SIZES.get(name, SIZE) for name in needed if state(name, root) != "made")


def checkouts(root: Path) -> Iterator[Check]:
    """The simulators that are git repositories (simulators/foreign/checkout.py puts them there)."""
    for path in sorted((root / "conf" / "simulator").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        commit = re.search(r"^commit: ([0-9a-f]{40})", text, re.MULTILINE)
        if commit is None or not re.search(r"^repository:", text, re.MULTILINE):
            continue
        name = f"checkout {path.stem}"
        if (root / ".cache" / "simulators" / f"{path.stem}@{commit[1]}").is_dir():
            yield Check(name=name, state="there", says=f"commit {commit[1][:7]}")
        else:
            yield Check(name=name, state="missing", says="missing", costs=f"simulator=[{path.stem}] fetches it when first used, with git")


def data(root: Path) -> Iterator[Check]:
    """Traces that the workloads of conf/workload read, and recordings, in $PLUMBLINE_DATA."""
    folder = Path(root, os.environ.get("PLUMBLINE_DATA") or "../shared/data")
    wanted = dict(_traces(root))
    if not folder.is_dir():
        costs = f"no workload {', '.join(wanted)}; those named *_like need no file. PLUMBLINE_DATA names a folder with traces/"
        yield Check(name="data", state="missing", says="no such folder", costs=costs)
        return
    for workload, file in wanted.items():
        if (folder / "traces" / file).is_file():
            yield Check(name=f"trace {workload}", state="there", says=file)
        else:
            costs = f"no workload={workload}; conf/workload/{workload}.yaml says where it is from"
            yield Check(name=f"trace {workload}", state="missing", says=f"no {file} in traces/ of the data folder", costs=costs)
    found = {name: _folders(folder / name) for name in ("recordings", "measured")}
    if any(found.values()):
        says = ", ".join(f"{len(names)} in {kind}/" for kind, names in found.items() if names)
        yield Check(name="recordings", state="there", says=f"{says} of the data folder")
    else:
        costs = "no runs of real GPUs to import (docs/importing.md says which there are)"
        yield Check(name="recordings", state="missing", says="none in the data folder", costs=costs)


def _traces(root: Path) -> Iterator[tuple[str, str]]:
    """Workload to the file in traces/ that it reads."""
    for path in sorted((root / "conf" / "workload").glob("*.yaml")):
        if found := re.search(r"^  path: \$\{oc\.env:PLUMBLINE_DATA,.*?\}/traces/(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield path.stem, found[1]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
