"""Bring a database's tables up to date with the run folders: what is gone leaves, what is new or changed is read. Read `update` first."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import duckdb
import pyarrow as pa

from results.derived.content import Content, content_of, tokens_view
from results.derived.folders import RunFolder, digest_of
from results.derived.values import SCHEMA, Values
from results.project.parallel import in_order
from results.project.progress import Progress
from results.storage.place import Place
from results.storage.run_tables import StoreError, one_line
from results.storage.store import near

BATCH = 64  # runs that are inserted together
OF_RUNS = (  # tables and the columns in which they name a run
    ("runs", ("run_id",)),
    ("requests", ("run_id",)),
    ("telemetry", ("run_id",)),
    ("run_values", ("run_id",)),
    ("saturation", ("run_id",)),
    ("scored_runs", ("run_id",)),
    ("fidelity", ("measured_run_id", "simulated_run_id")),
    ("fidelity_parts", ("measured_run_id", "simulated_run_id")),
    ("scored_pairs", ("measured_run_id", "simulated_run_id")),
)
# In the order of run_id, whenever they came, and a simulated run with the cell and the configuration of its measured run.
SETTLED = """
CREATE TEMP TABLE settled AS
SELECT
    run.* REPLACE (
        CASE WHEN run.kind = 'measured' THEN run.cell ELSE measured.cell END AS cell,
        CASE WHEN run.kind = 'measured' THEN run.configuration ELSE measured.configuration END AS configuration
    )
FROM runs AS run LEFT JOIN runs AS measured ON measured.run_id = run.measured_run_id AND measured.kind = 'measured'
ORDER BY run.run_id;
DELETE FROM runs;
INSERT INTO runs SELECT * FROM settled;
DROP TABLE settled;
DELETE FROM trace_requests WHERE trace_sha256 NOT IN (SELECT trace_sha256 FROM runs);
UPDATE plumbline SET scored = NULL
"""

_Known = Mapping[tuple[str, str], str]  # (path, state) of a folder to the digest of its run


def update(
    connection: duckdb.DuckDBPyConnection, found: Sequence[RunFolder], known_values: Mapping[str, Values], progress: Progress | None
) -> None:
    """Make the tables those of the folders in `found`. Of a run and its copy the first counts.

    known_values: metrics that were computed before, by the run's digest. Raises StoreError, PlaceError naming a folder that is no whole
    run, or a run of the same id that is another; duckdb.Error.
    """
    rows = connection.execute("SELECT path, state, digest FROM folders").fetchall()
    known = {(path, state): digest for path, state, digest in rows}
    runs = runs_of(found)
    _check_copies(found, runs, known)
    held = dict(connection.execute("SELECT run_id, path FROM runs").fetchall())
    fresh = [folder for run_id, folder in runs.items() if held.get(run_id) != str(folder.place) or _key(folder) not in known]
    _forget(connection, [*(run_id for run_id in held if run_id not in runs), *(folder.run_id for folder in fresh)])
    digests = {folder.run_id: known[_key(folder)] for folder in runs.values() if _key(folder) in known}
    for batch in _batches(_contents(fresh, known_values, progress)):
        _insert(connection, batch)
        digests |= {content.folder.run_id: content.digest for content in batch}
    connection.execute(SETTLED)
    connection.execute("DELETE FROM folders")
    told = [(str(folder.place), folder.run_id, folder.state, digests[folder.run_id]) for folder in found]
    if told:
        _append(connection, "folders", pa.table([*map(list, zip(*told, strict=True))], names=["path", "run_id", "state", "digest"]))
    connection.execute(tokens_view({run_id: folder.place for run_id, folder in runs.items()}))


def runs_of(found: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """The folder of each run, by run_id and in its order; of several the first."""
    runs: dict[str, RunFolder] = {}
    for folder in found:
        runs.setdefault(folder.run_id, folder)
    return dict(sorted(runs.items()))


def _check_copies(found: Sequence[RunFolder], runs: Mapping[str, RunFolder], known: _Known) -> None:
    """See that folders of one run_id hold the same run; those that were compared before are not read again."""
    for folder in found:
        first = runs[folder.run_id]
        if first is not folder and not (_key(first) in known and _key(folder) in known) and not _same(first.place, folder.place):
            raise StoreError(f"{folder.place}: another run of this id is in {first.place.parent}; delete one of the two folders")


def _same(one: Place, other: Place) -> bool:
    try:
        with near(one) as first, near(other) as second:
            return digest_of(first) == digest_of(second)
    except OSError as error:
        raise StoreError(f"{other}: cannot be compared with {one} ({one_line(error)}); delete one of the two folders") from error


def _forget(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> None:
    if run_ids:
        for table, columns in OF_RUNS:
            where = " OR ".join(f"{column} IN (SELECT unnest($ids))" for column in columns)
            connection.execute(f"DELETE FROM {table} WHERE {where}", {"ids": list(run_ids)})


def _contents(folders: Sequence[RunFolder], known_values: Mapping[str, Values], progress: Progress | None) -> Iterator[Content]:
    """What is in each folder, in their order; several are read at a time."""
    read = partial(content_of, known_values=known_values)
    return (content for _, content in in_order(read, folders, progress, weight=lambda folder: folder.size))


def _batches(contents: Iterator[Content]) -> Iterator[list[Content]]:
    batch: list[Content] = []
    for content in contents:
        batch.append(content)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _insert(connection: duckdb.DuckDBPyConnection, batch: Sequence[Content]) -> None:
    """Rows keep the order of the runs and, in each, of its files."""
    _append(connection, "runs", pa.Table.from_pylist([dict(content.run) for content in batch]))
    _append(connection, "requests", pa.concat_tables([content.requests for content in batch]))
    telemetry = [content.telemetry for content in batch if content.telemetry is not None]
    if telemetry:
        _append(connection, "telemetry", pa.concat_tables(telemetry))
    values = [(content.folder.run_id, *row) for content in batch for row in content.values]
    _append(connection, "run_values", pa.table([*map(list, zip(*values, strict=True))], schema=SCHEMA))
    for content in batch:
        _insert_trace(connection, content)


def _insert_trace(connection: duckdb.DuckDBPyConnection, content: Content) -> None:
    sha256 = content.run["trace_sha256"]
    if connection.execute("SELECT 1 FROM trace_requests WHERE trace_sha256 = ? LIMIT 1", [sha256]).fetchall():
        return
    connection.register("given", content.trace)
    session = "session" if "session" in content.trace.column_names else "NULL"  # of a trace without sessions
    connection.execute(
        f"INSERT INTO trace_requests SELECT ?, request_id, arrival, input_tokens, output_tokens, len(blocks), {session} FROM given "
        "ORDER BY arrival, request_id",
        [sha256],
    )
    connection.unregister("given")


def _append(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    connection.register("given", rows)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")
    connection.unregister("given")


def _key(folder: RunFolder) -> tuple[str, str]:
    return str(folder.place), folder.state
