"""`./plumbline doctor`: what this machine has, a line per thing, and what each missing thing costs.

✓ is there; – is missing, and `make bench` works without it; ✗ is missing, and it does not.
Exit code: 0 when `make bench` can work here, else 1.
"""

import argparse
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.doctor import machine, project
from harness.doctor.check import Check
from harness.doctor.index import Index
from harness.environment_state import CORE, state
from results.project.folder import ROOT

PATIENCE = 1.2  # s for the package index; the rest is done meanwhile


def main(arguments: Sequence[str] | None = None) -> None:
    """Look, print, exit."""
    parser = argparse.ArgumentParser(prog="./plumbline doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON: works, and checks with name, state, says and costs")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="S", help=f"s to wait for the package index ({PATIENCE:g})")
    options = parser.parse_args(arguments)
    checks = examine(ROOT, options.patience)
    works = all(check.state != "needed" for check in checks)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ is no reason to stop
    if options.json:
        print(json.dumps({"works": works, "checks": [dataclasses.asdict(check) for check in checks]}, indent=1))
    else:
        print("\n".join(check.line() for check in checks))
        print("`make bench` can work here" if works else "`make bench` cannot work here before what is marked ✗ is mended")
    sys.exit(0 if works else 1)


def examine(root: Path, patience: float) -> list[Check]:
    """All checks. patience: s for the package index."""
    index = Index(root, patience)
    hardware = sorted(path.stem for path in (root / "conf" / "hardware").glob("*.yaml"))
    gpu, on_gpu = machine.gpu(hardware)
    needed = project.bench_environments(root, on_gpu=on_gpu)
    before = [
        gpu,
        machine.cores(),
        machine.memory(),
        machine.disk(root, project.room(root, needed)),
        machine.python(venv_needed=state(CORE, root) != "made"),
        *machine.programs(),
    ]
    after = [*project.checkouts(root), *project.data(root)]
    answers = index.answers()
    return [*before, _index(answers), *project.environments(root, needed, index=answers), *after]


def _index(answers: bool) -> Check:
    if answers:
        return Check(name="package index", state="there", says="answers")
    return Check(name="package index", state="missing", says="does not answer", costs="environments that are missing cannot be made")


if __name__ == "__main__":
    main()
