"""`./plumbline simulator check NAME [KEY=VALUE ...]`: what a simulator models, by small traces with known answers.

NAME is a file of conf/simulator; settings are those of a bench (simulators.vidur.limit=60). Each trace says what it shows. The last table
has the coverage that was measured beside the declared one; both are kept in results/conformance/NAME.json, from which the report's page
shows them. Exit code 1: a law is broken that must hold of any simulator, or it says that it models more than it does.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from results.project.arguments import ArgumentParser
from results.project.caller import given_path
from results.project.progress_bar import shown
from results.storage.conformance import FOLDER, Conformance
from simulators.conformance.cases.all import CASES
from simulators.conformance.check import check
from simulators.conformance.configured import configured
from simulators.conformance.coverage import broken, overstated, rows
from simulators.errors import SimulatorError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code. Errors are one line on stderr, exit code 1."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    options = _parser().parse_args(arguments)
    try:
        simulator = configured(options.name, options.settings)
        with shown("simulations") as progress:
            found = check(simulator, CASES, settings=options.settings, progress=progress)
        path = found.write(options.out)
    except (SimulatorError, ValueError, OSError) as error:
        sys.exit(f"plumbline: {' '.join(str(error).split())}")
    for table in (_cases(found), _coverage(found)):
        console.print(table)
    wrong = [f"broken laws: {', '.join(broken(found))}"] if broken(found) else []
    wrong += [f"says more than it does: {', '.join(overstated(found))}"] if overstated(found) else []
    for line in [*wrong, f"kept in {path}"]:
        console.print(escape(line), soft_wrap=True)
    return 1 if wrong else 0


def _cases(found: Conformance) -> Table:
    table = Table("case", "row", "shows", "outcome", "figure (bounds)")
    for case in found.cases:
        table.add_row(case.name, case.row or "law", escape(case.shows), case.outcome, escape(case.says))
    return table


def _coverage(found: Conformance) -> Table:
    table = Table(f"{found.system} {found.version or ''}".strip(), "declared", "measured", "cases that hold", "")
    for row in rows(found):
        table.add_row(row.name, row.declared, row.measured or "-", f"{row.held} of {row.tried}" if row.tried else "-", row.standing)
    held = found.tried(None)
    table.add_row("laws", "", "", f"{sum(held)} of {len(held)}", "broken" if broken(found) else "hold" if held else "not tried")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="./plumbline simulator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checker = commands.add_parser("check", help="tell what a simulator models", description=__doc__)
    checker.formatter_class = argparse.RawDescriptionHelpFormatter
    checker.add_argument("name", metavar="NAME", help="a choice of conf/simulator")
    checker.add_argument("settings", metavar="KEY=VALUE", nargs="*", default=[], help="settings of a bench")
    checker.add_argument("--out", type=given_path, default=FOLDER, metavar="FOLDER", help="where the result is kept (results/conformance)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
