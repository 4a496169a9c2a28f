"""`./plumbline recordings`: real GPUs that others measured. `recordings` lists them, `recordings NAME` tells all of one, and
`recordings fetch NAME ...` gets them from their public repository (`fetch all`: every one) and imports each run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from results.catalogue import fetching, listing
from results.catalogue.entry import Entry
from results.catalogue.shelf import Shelf, imported, shelf
from results.project.arguments import ArgumentParser
from results.project.caller import given_path
from results.recordings.recording import RecordingError
from results.storage.run_tables import StoreError
from results.storage.store import write_run
from workloads.trace import TraceError

ROOT = Path("results/runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    options = _parser().parse_args(arguments)
    fetch, names = options.words[:1] == ["fetch"], options.words
    try:
        known = shelf()
        if fetch:
            sys.exit(_fetch(console, known, names[1:], options.root))
        for name in names:
            console.print(escape("\n".join(listing.lines(known, known.entry(name)))), soft_wrap=True)
        if not names:
            console.print(listing.table(known))
    except (RecordingError, StoreError, TraceError) as error:
        sys.exit(f"recordings: {error}")


def _fetch(console: Console, known: Shelf, names: Sequence[str], root: Path) -> int:
    """Fetch and import; a line per entry. The exit code: 0, or 1 when one could not be had, or none of its runs be imported."""
    if not names:
        raise RecordingError("fetch what? Give the names of recordings (./plumbline recordings lists them), or all")
    wanted = list(known.entries) if names == ["all"] else [known.entry(name) for name in names]
    failed = False
    for entry, found in fetching.each(wanted):
        if isinstance(found, RecordingError):
            failed = True
            print(found, file=sys.stderr)
            continue
        new, refused = _import(known, entry, root)
        console.print(escape(f"{entry.name}: {len(found)} runs, {new} new in {root}"), soft_wrap=True)
        failed |= len(refused) == len(found) and entry.not_yet is None
        for line in refused:
            console.print(escape(f"  not imported: {line}"), soft_wrap=True)
    return int(failed)


def _import(known: Shelf, entry: Entry, root: Path) -> tuple[int, list[str]]:
    """How many runs of an entry were written as run folders (one that is there stays), and why others could not be."""
    new, refused = 0, []
    for folder in known.here(entry).values():
        try:
            run = imported(entry, folder)
        except (RecordingError, TraceError) as error:
            refused.append(str(error))
            continue
        if not (root / run.run_id).exists():
            write_run(root, run)
            new += 1
    return new, refused


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="./plumbline recordings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", metavar="NAME | fetch NAME ...", nargs="*", help="nothing: list all")
    parser.add_argument("--root", type=given_path, default=ROOT, help=f"where the run folders of fetched recordings go ({ROOT})")
    return parser


if __name__ == "__main__":
    main()
