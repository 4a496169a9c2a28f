"""A stored run by its id: what plays one back and what is fitted to one look in the same places."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from results.storage.place import Place, place
from results.storage.run_tables import StoreError
from results.storage.store import run_folders


def stored_runs(roots: Sequence[str]) -> dict[str, Place]:
    """The run folders in these roots by their ids; of two with one id that of the earlier root."""
    return {folder.name: folder for root in reversed([place(root) for root in roots]) for folder in run_folders(root)}


def find_run(run: str, roots: Sequence[str], *, asker: str) -> Place:
    """The folder of a run. run: its id, or the path of its folder. asker: for the error. Raises StoreError naming runs of like names."""
    if (Path(run) / "run.json").is_file():
        return Path(run)
    there = next((folder for root in roots if ((folder := place(root) / run) / "run.json").is_file()), None)
    if there is not None:
        return there
    alike = get_close_matches(run, stored_runs(roots), n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(alike)}?" if alike else "./plumbline list shows what is there"
    raise StoreError(f"{asker}: no run named {run} in {', '.join(roots)}; {hint}")
