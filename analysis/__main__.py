"""`python -m analysis report | table`: score the stored runs; write the page, or print measured beside simulated."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.data import AnalysisError, compare, open_database
from analysis.report import Report
from analysis.scoring.fidelity import score
from analysis.study import scorecard
from analysis.study import table as study_table
from analysis.study.data import read_study
from analysis.study.report import StudyReport
from results.database import DatabaseError
from results.project.arguments import ArgumentParser
from results.project.caller import given_path
from results.project.progress_bar import shown

DATABASE = Path("results/plumbline.duckdb")
OUT = Path("results/report.html")
STUDY_OUT = Path("results/study.html")
ALL = ""  # what --study without a name means


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        print(report(options) if options.command == "report" else table(options))
    except (AnalysisError, DatabaseError, OSError) as error:
        sys.exit(f"analysis: {error}")


def report(options: argparse.Namespace) -> str:
    """Write the page; return the verdict and where the page is."""
    with shown("scores") as progress:
        if options.study is not None:
            study = StudyReport(database=options.database, out=options.out or STUDY_OUT).write(options.study or None, progress=progress)
            return f"{study.verdict}\nreport: {study.path}"
        summary = Report(database=options.database, out=options.out or OUT).write(options.run, progress=progress)
    return f"{summary.verdict}\nreport: {summary.path}"


def table(options: argparse.Namespace) -> str:
    """Measured beside simulated in the chosen format; of a study, every simulator's errors over its cells."""
    with shown("scores") as progress:
        refused = score(options.database, progress=progress)
    for run_id, reason in refused.items():
        if options.study is not None or options.scorecard:
            print(f"analysis: {run_id} is not scored: {reason}", file=sys.stderr)
    if options.scorecard:
        with open_database(options.database) as connection:
            scores = scorecard.numbers(connection, options.database, options.study or None)
        printed = _in_format(scores, scorecard.as_text(scores), options.format)
        covered = scorecard.coverage()
        return printed if covered.empty or options.format == "csv" else f"{printed}\n\n{_in_format(covered, covered, options.format)}"
    if options.study is not None:
        with open_database(options.database) as connection:
            study = read_study(connection, options.database, options.study or None)
        for cell in study.cells[study.cells["repeats"] == 0].itertuples():
            print(f"analysis: cell {cell.cell} ({cell.system}, {cell.workload}) has no valid run: left out", file=sys.stderr)
        numbers = study_table.numbers(study)
        return _in_format(numbers, study_table.as_text(numbers), options.format)
    comparison = compare(options.database, options.run)
    for run in comparison.simulated:
        if run.run_id in refused:
            print(f"analysis: {run.run_id} is not scored: {refused[run.run_id]}", file=sys.stderr)
    measured = comparison.measured
    if not measured.valid:
        print(f"analysis: {measured.run_id} is INVALID: {measured.invalid_reason}", file=sys.stderr)
    numbers = tables.comparison(comparison.metrics[measured.run_id], comparison.scores, valid=measured.valid)
    if len(costs := tables.costs(comparison)):
        numbers = pd.concat([numbers, costs[[name for name in numbers.columns if name in costs]]], ignore_index=True)
    return _in_format(numbers, tables.as_text(numbers, valid=measured.valid), options.format)


def _in_format(numbers: pd.DataFrame, text: pd.DataFrame, chosen: str) -> str:
    if chosen == "csv":
        return tables.csv(numbers).rstrip()
    return (tables.markdown(text) if chosen == "md" else tables.latex(text)).rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="./plumbline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reporter = _command(commands, "report", "score, and write one self-contained HTML page")
    reporter.add_argument("--out", type=given_path, help=f"the page ({OUT}; of a study {STUDY_OUT})")
    tabler = _command(commands, "table", "score, and print measured beside simulated")
    tabler.add_argument("--format", choices=("md", "csv", "latex"), default="md", help="Markdown, CSV (full precision) or LaTeX (booktabs)")
    scorecard_does = "every simulator and track over the runs of --study (all runs), and the coverage that was measured"
    tabler.add_argument("--scorecard", action="store_true", help=scorecard_does)
    for command in (reporter, tabler):
        command.add_argument("--database", type=given_path, default=DATABASE, help=f"the DuckDB file ({DATABASE})")
        command.add_argument(
            "--study", metavar="NAME", nargs="?", const=ALL, help="on a study instead of one run; without a name: on all runs"
        )
        command.add_argument("--run", metavar="RUN_ID", help="the measured run (the newest)")
    return parser


def _command(commands: "argparse._SubParsersAction[ArgumentParser]", name: str, does: str) -> argparse.ArgumentParser:
    """A subcommand by the name of its verb of ./plumbline."""
    return commands.add_parser(name, prog=f"./plumbline {name}", help=does, description=does[0].upper() + does[1:] + ".")


if __name__ == "__main__":
    main()
