"""`./plumbline compare A B`: two runs, studies or folders of runs; what is better, worse, or not to be told (docs/compare.md)."""

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.comparison import shown
from analysis.comparison.compare import ASSUMED, METRICS, Judged, compare
from analysis.comparison.sides import opened
from analysis.data import AnalysisError
from results.database import DatabaseError
from results.project.arguments import ArgumentParser
from results.project.caller import given_path
from results.storage.place import PlaceError
from results.storage.run_tables import StoreError

DATABASE = Path("results/plumbline.duckdb")
WORSE = 4  # exit code of --fail-on worse: 1 is for what cannot be compared, 2 and 3 are said by bench and study


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        judged = Judged(margin=options.margin, noise=options.noise, metrics=_metrics(options.metrics))
        with (
            opened(options.a, options.database, options.checkout) as one,
            opened(options.b, options.database, options.checkout) as other,
        ):
            found = compare(one, other, judged)
    except (AnalysisError, DatabaseError, PlaceError, StoreError, OSError) as error:
        sys.exit(f"compare: {error}")
    write = {"text": shown.as_text, "markdown": shown.as_markdown, "json": shown.as_json}[options.format]
    print(write(found))
    if options.page is not None:
        from analysis.comparison import page  # here: it imports Plotly, which takes long

        print(f"page: {page.write(found, options.page)}", file=sys.stderr)
    if options.fail_on == "worse" and found.count("worse"):
        sys.exit(WORSE)


def _metrics(words: str) -> Sequence[str]:
    metrics = [word.strip() for word in words.split(",")]
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise AnalysisError(f"--metrics: there is no {unknown[0]!r}; choose of {', '.join(METRICS)}")
    return metrics


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="./plumbline compare", description=__doc__)
    what = "a run or a study of the database by its name, a run's folder, a folder (or address) of runs, or git:REF"
    parser.add_argument("a", metavar="A", help=f"what was before: {what}")
    parser.add_argument("b", metavar="B", help="what is held against it, likewise")
    parser.add_argument("--checkout", type=given_path, help="of the engine: where git looks up the REF of git:REF")
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="of the answer")
    parser.add_argument("--page", type=given_path, help="write the answer as one HTML page, too")
    parser.add_argument("--fail-on", choices=("worse",), help=f"exit with {WORSE} when a figure is worse beyond doubt")
    parser.add_argument("--metrics", default=",".join(METRICS), help=f"those that are judged; fewer are told sooner ({','.join(METRICS)})")
    parser.add_argument("--margin", type=float, default=0.01, help="relative difference that counts as none (0.01)")
    parser.add_argument("--noise", type=float, default=ASSUMED, help=f"noise floor where no repeats show one, relative ({ASSUMED})")
    parser.add_argument("--database", type=given_path, default=DATABASE, help=f"the DuckDB file ({DATABASE})")
    return parser


if __name__ == "__main__":
    main()
