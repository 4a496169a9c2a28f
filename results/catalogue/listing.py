"""`./plumbline recordings`: the catalogue as people read it."""

from collections.abc import Iterator

from rich.table import Table

from results.catalogue.entry import Entry
from results.catalogue.shelf import Shelf


def table(shelf: Shelf) -> Table:
    """A row per entry, and what all of them add up to."""
    found = Table(show_footer=True)
    known = [(entry, len(shelf.here(entry))) for entry in shelf.entries]
    feet = {
        "recording": f"{len({entry.origin.repository for entry in shelf.entries})} sources",
        "GPU": f"{len({entry.hardware for entry in shelf.entries})} GPUs",
        "model": f"{len({entry.model for entry in shelf.entries})} models",
        "runs": str(sum(entry.runs for entry in shelf.entries)),
        "here": str(sum(here for _, here in known)),
    }
    for name in ("recording", "engine", "GPU", "model", "runs", "here", "loop", "licence"):
        found.add_column(name, feet.get(name, ""), justify="right" if name in ("runs", "here") else "left", overflow="fold")
    for entry, here in known:
        licence = entry.origin.licence or "none"
        engine = " ".join(str(part) for part in (entry.system, entry.about.get("version")) if part)
        loops = " and ".join(entry.loops)
        found.add_row(entry.name, engine, entry.gpu, entry.model, str(entry.runs), str(here or ""), loops, licence)
    return found


def lines(shelf: Shelf, entry: Entry) -> Iterator[str]:
    """All that is known of one entry."""
    licence = entry.origin.licence or "none: to be scored, not to be passed on"
    yield f"{entry.name}: {entry.system} {entry.about.get('version') or ''}, {entry.model}, {entry.gpu}"
    yield f"  from {entry.origin.repository} at {entry.origin.commit[:7]} ({entry.origin.variable} names another copy); licence: {licence}"
    for text in entry.wrong:
        yield f"  known: {text}"
    if entry.not_yet is not None:
        yield f"  not imported yet: {entry.not_yet}"
    here = shelf.here(entry)
    yield f"  {len(here)} of {entry.runs} runs are here" + ("" if here else f"; ./plumbline recordings fetch {entry.name}")
    for run, folder in here.items():
        asked = entry.load(run)
        load = f"closed loop of {asked.concurrency}" if asked.loop == "closed" else "" if asked.rate is None else f"{asked.rate:g} req/s"
        yield f"  {run}: {asked.workload}, {load or 'as recorded'}, repeat {asked.repeat} ({folder})"
