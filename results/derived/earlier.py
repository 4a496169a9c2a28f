"""What a database file holds already, whoever made it, as far as it can be used again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from results.derived.values import Values, definition
from results.derived.writing import wal

VALUES = """
SELECT digest, metric, stat, value
FROM run_values JOIN (SELECT run_id, any_value(digest) AS digest FROM folders GROUP BY run_id) USING (run_id)
WHERE (SELECT metrics FROM plumbline) = ?
"""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The content of an older database. schema: its `plumbline.schema`; None: there is none, or it cannot be trusted.

    folders: (path, state) of those that it was made from, in their order.
    """

    schema: str | None = None
    folders: list[tuple[str, str]] = field(default_factory=list)


def earlier(database: Path) -> Earlier:
    """Read what is in the file; nothing of one that is missing, damaged, of another form, or left behind by a writer that died."""
    if not database.exists() or wal(database).exists():
        return Earlier()
    try:
        with duckdb.connect(database, read_only=True) as connection:
            ((schema,),) = connection.execute("SELECT schema FROM plumbline").fetchall()
            folders = connection.execute("SELECT path, state FROM folders ORDER BY rowid").fetchall()
    except duckdb.Error:
        return Earlier()
    return Earlier(schema=schema, folders=folders)


def known_values(database: Path) -> Mapping[str, Values]:
    """Metrics that today's SQL computed, by the run's digest; none of a file that `earlier` tells nothing of."""
    if not database.exists() or wal(database).exists():
        return {}
    values: dict[str, Values] = {}
    try:
        with duckdb.connect(database, read_only=True) as connection:
            for digest, *row in connection.execute(VALUES, [definition()]).fetchall():
                values.setdefault(digest, []).append(tuple(row))
    except duckdb.Error:
        return {}
    return values
