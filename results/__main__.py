"""The database of the run folders, and runs from elsewhere: `./plumbline database | list | show RUN_ID | import PATH | unpack PATH`.

Each is a verb of ./plumbline (build: `./plumbline database`).
"""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from results import database
from results.database import DatabaseError
from results.project.arguments import ArgumentParser
from results.project.caller import given, given_path
from results.project.progress_bar import shown
from results.recordings.import_run import Options, import_run
from results.recordings.recording import RecordingError
from results.recordings.simulated_by import TRACKS, Author, may_be_replaced, predicted_run
from results.storage.archive import SUFFIX, unpack_runs
from results.storage.find import find_run
from results.storage.place import Place, PlaceError, place
from results.storage.run_tables import StoreError
from results.storage.store import read_run, write_run
from results.summary import tables, text
from workloads.trace import TraceError

ROOTS = (Path("results/measured"), Path("results/runs"))
DATABASE = Path("results/plumbline.duckdb")

HOW_TO_GIVE = "give what you know in --about FILE (kv_tokens also by --kv-tokens N)"

LIST = """
    SELECT
        run_id, system, track, workload, rho, CASE WHEN valid THEN 'yes' ELSE 'no' END AS valid,
        1000 * any_value(value) FILTER (metric = 'ttft') AS "ttft p50 (ms)",
        1000 * any_value(value) FILTER (metric = 'tpot') AS "tpot p50 (ms)"
    FROM runs JOIN run_metrics USING (run_id)
    WHERE metric IN ('ttft', 'tpot') AND stat = 'p50'
    GROUP BY ALL
    ORDER BY run_id
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    try:
        options = _parser().parse_args(arguments)
        if options.command == "build":
            build(console, options.root, options.database)
        elif options.command == "list":
            list_runs(console, options.database)
        elif options.command == "import":
            import_recording(console, options)
        elif options.command == "unpack":
            unpack(console, options.paths, options.root)
        else:
            show(console, options.database, options.run_id)
    except (DatabaseError, PlaceError, RecordingError, StoreError, TraceError) as error:
        sys.exit(f"results: {error}")


def build(console: Console, roots: Sequence[Place] | None, path: Path) -> None:
    """Build the database from the given roots (each must exist) or from those of ROOTS that exist."""
    for root in roots or ():
        if isinstance(root, Path) and not root.is_dir():
            raise DatabaseError(f"{root}: no such folder; give one that holds run folders")
    with shown("database") as progress:
        count = database.build(roots or ROOTS, path, progress)
    console.print(escape(f"{path}: {count} run{'' if count == 1 else 's'} from {', '.join(map(str, roots or ROOTS))}"))


def list_runs(console: Console, path: Path) -> None:
    """Print one line per run."""
    with database.connect(path) as connection:
        rows = connection.execute(LIST)
        _print(console, [column[0] for column in rows.description], rows.fetchall())


def show(console: Console, path: Path, run_id: str) -> None:
    """Print all that is known about one run: its row in `runs`, its latencies, its rates."""
    with database.connect(path) as connection:
        row = connection.execute("SELECT * FROM runs WHERE run_id = ?", [run_id])
        names, values = [column[0] for column in row.description], row.fetchone()
        if values is None:
            near = difflib.get_close_matches(run_id, [name for (name,) in connection.execute("SELECT run_id FROM runs").fetchall()], n=3)
            raise DatabaseError(f"{path}: no run {run_id!r}; " + (f"near ones: {', '.join(near)}" if near else "see `./plumbline list`"))
        shown = tables(connection, run_id)
    _print(console, ["run", ""], [(n, v) for n, v in zip(names, values, strict=True) if v is not None])
    for metrics in shown:
        console.print(metrics)


def import_recording(console: Console, options: argparse.Namespace) -> None:
    """Write the run folder of a run that someone else recorded; say what is assumed of it."""
    if options.simulated_by is not None or options.of is not None:
        import_predictions(console, options)
        return
    names = [field.name for field in dataclasses.fields(Options)]
    given = {name: getattr(options, name) for name in names}
    given["window"] = None if options.window is None else tuple(options.window)
    run = import_run(options.path, Options(**given))
    folder = write_run(options.root, run)
    facts = run.provenance
    failed = sum(record.error is not None for record in run.records)
    lines = [
        f"{folder}: {len(run.trace)} requests, {failed} failed, {run.trace.duration:.1f} s of arrivals",
        f"  taken from: {facts['form']}, {facts.get('load', 'load not recorded')}",
        *(f"  assumed: {name}: {why}" for name, why in facts["assumed"].items()),
        *([f"  not recorded: {', '.join(facts['not_recorded'])}: {HOW_TO_GIVE}"] if facts["not_recorded"] else []),
        *(f"  {name}: {facts[name]}" for name in ("token_times",) if name in facts),
        *([f"  INVALID: {run.invalid_reason}"] if not run.valid else []),
        f"  prefixes: {facts['shared_prefixes']}",
        f"  next: make bench engine=recorded engine.run={run.run_id}",
    ]
    console.print(escape("\n".join(lines)), soft_wrap=True)


def import_predictions(console: Console, options: argparse.Namespace) -> None:
    """Write the folder of a simulated run that someone else predicted."""
    if options.simulated_by is None or options.of is None:
        raise RecordingError("predictions need both --simulated-by NAME and --of RUN_ID, the measured run that they are of")
    for name in (field.name for field in dataclasses.fields(Options)):
        if getattr(options, name) is not None:
            raise RecordingError(f"leave out --{name.replace('_', '-')}: a simulated run has what the run has that it is held against")
    author = Author(name=options.simulated_by, track=options.track, took=options.took, version=options.version)
    roots = [str(root) for root in dict.fromkeys((options.root, *ROOTS))]
    measured = read_run(find_run(options.of, roots, asker="--of"))
    run = predicted_run(options.path, measured, author)
    may_be_replaced(options.root / run.run_id)
    folder = write_run(options.root, run, replace=True)
    failed = sum(record.error is not None for record in run.records)
    lines = [
        f"{folder}: {len(run.records)} requests of {measured.run_id} as {run.system} predicts them, {failed} failed",
        f"  taken from: {run.config['simulator']['form']}, track {run.track}",
        *(["  a closed loop: the requests stay where they were measured"] if measured.is_closed_loop else []),
        "  next: ./plumbline database, then ./plumbline report",
    ]
    console.print(escape("\n".join(lines)), soft_wrap=True)


def unpack(console: Console, paths: Sequence[Path], root: Path) -> None:
    """Put the runs of a campaign's archives into run folders, and its times of single operations beside them."""
    for path in paths:
        if not path.exists():
            raise StoreError(f"{path}: no such file or folder; give the archives of a campaign, or the folder that holds them")
    archives = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
    new = unpack_runs(archives, root)
    console.print(
        escape("\n".join([f"{len(archives)} archives, {len(new)} new in {root}", *(f"  {folder.relative_to(root)}" for folder in new)]))
    )


def _print(console: Console, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text(value)) for value in row))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="./plumbline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = _command(commands, "build", "build the database from the run folders", verb="database")
    where = f"a folder of run folders, or an address of some (s3://bucket/prefix), repeatable ({', '.join(map(str, ROOTS))})"
    builder.add_argument("--root", "--runs", type=_given_place, action="append", help=where)
    lister = _command(commands, "list", "list the runs")
    shower = _command(commands, "show", "show one run: its configuration, validity and metrics")
    shower.add_argument("run_id", metavar="RUN_ID")
    does = "make a measured run of a recording in the plain form, or of the file of a load generator (docs/importing.md)"
    _add_import(_command(commands, "import", does))
    unpacker = _command(commands, "unpack", "take the runs out of a campaign's archives (docs/gpu.md)")
    unpacker.add_argument("paths", metavar="FOLDER_OR_FILE", type=given_path, nargs="+")
    unpacker.add_argument("--root", type=given_path, default=ROOTS[-1], help=f"where the run folders go ({ROOTS[-1]})")
    for command in (builder, lister, shower):
        command.add_argument("--database", type=given_path, default=DATABASE, help=f"the DuckDB file ({DATABASE})")
    return parser


def _add_import(importer: argparse.ArgumentParser) -> None:
    importer.add_argument("path", metavar="FOLDER_OR_FILE", type=given_path)
    importer.add_argument("--root", type=given_path, default=ROOTS[-1], help=f"where the run folder goes ({ROOTS[-1]})")
    importer.add_argument("--about", type=given_path, metavar="FILE", help="YAML or JSON with what the requests' file does not say")
    importer.add_argument("--benchmark", type=int, metavar="N", help="which result of a file that has several, from 1")
    importer.add_argument("--system", metavar="NAME", help="what was measured: vllm, sglang, ...")
    importer.add_argument("--started-at", metavar="TIME", help="when: 2026-04-25T18:47:18Z")
    for group in ("model", "hardware", "slo"):
        importer.add_argument(f"--{group}", metavar="NAME", help=f"a choice of conf/{group}/ instead of what the recording says")
    importer.add_argument("--run-id", metavar="ID", help="name of the run folder")
    prompts = "JSONL with input_tok_ids per request: which prefixes they share"
    importer.add_argument("--prompts", type=given_path, metavar="FILE", help=prompts)
    importer.add_argument("--kv-tokens", type=int, metavar="N", help="the engine's KV capacity, where the recording does not say it")
    importer.add_argument("--first", type=int, metavar="N", help="score the first N requests only")
    importer.add_argument("--last", type=int, metavar="N", help="score the last N requests only")
    importer.add_argument("--simulated-by", metavar="NAME", help="the file has NAME's predictions of single requests, of the run --of")
    importer.add_argument("--of", metavar="RUN_ID", help="the measured run that predictions are of")
    importer.add_argument("--track", default="matched", help=f"what predictions were calibrated on: {', '.join(TRACKS)} (matched)")
    importer.add_argument("--version", metavar="VERSION", help="of the simulator that predicted")
    importer.add_argument("--took", type=float, metavar="SECONDS", help="what the simulation took")
    importer.add_argument("--window", type=float, nargs=2, metavar=("START", "END"), help="score what arrives between these seconds only")


def _command(
    commands: "argparse._SubParsersAction[ArgumentParser]", name: str, does: str, verb: str | None = None
) -> argparse.ArgumentParser:
    """A subcommand by the name of its verb of ./plumbline."""
    return commands.add_parser(name, prog=f"./plumbline {verb or name}", help=does, description=does[0].upper() + does[1:] + ".")


def _given_place(path: str) -> Place:
    return place(given(path))


if __name__ == "__main__":
    main()
