"""The recordings that are here, in $PLUMBLINE_DATA/recordings or fetched, and the measured Run of one."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from results.catalogue.entry import Entry, entries
from results.project.folder import CONF, ROOT
from results.record import Run
from results.recordings.import_run import Options, import_run
from results.recordings.recording import RecordingError

FETCHED = ROOT / ".cache" / "recordings"
FAILED = 0.01  # of the requests may have failed in a valid run
FILES = ("requests.csv", "requests.jsonl")  # one of them makes a folder a run


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Entries of the catalogue, and the folders in which their runs may lie: ROOT/NAME/RUN, or ROOT/NAME where there is one run only."""

    entries: Sequence[Entry]
    roots: Sequence[Path]  # of two runs of a name, that of the first counts

    def entry(self, name: str) -> Entry:
        """The entry of this name. Raises RecordingError with the near ones."""
        found = {entry.name: entry for entry in self.entries}
        if name not in found:
            near = get_close_matches(name, found, n=3, cutoff=0.4) or list(found)
            raise RecordingError(f"no recording is called {name!r} in conf/recording; there is {', '.join(near)}")
        return found[name]

    def here(self, entry: Entry) -> Mapping[str, Path]:
        """The runs of an entry that are here, by name: their folders. A folder that no split names is no run of it."""
        found: dict[str, Path] = {}
        for root in reversed(self.roots):
            place = root / entry.name
            folders = [place] if _is_run(place) else sorted(folder for folder in place.glob("*") if _is_run(folder))
            found |= {folder.name: folder for folder in folders if any(split.of(folder.name) for split in entry.split)}
        return dict(sorted(found.items()))

    def run(self, name: str, run: str) -> Run:
        """The measured run of one recording, its load and repeat as the catalogue says. Raises RecordingError, TraceError."""
        entry = self.entry(name)
        folder = self.here(entry).get(run)
        if folder is None:
            raise RecordingError(f"recording {name}: no run {run!r} is here; ./plumbline recordings fetch {name}")
        return imported(entry, folder)


def shelf() -> Shelf:
    """The project's catalogue, and where its recordings are looked for."""
    data = Path(ROOT, os.environ.get("PLUMBLINE_DATA") or "../shared/data")
    return Shelf(entries=entries(), roots=(data / "recordings", FETCHED))


def imported(entry: Entry, folder: Path) -> Run:
    """The measured run of a recording's folder. What the catalogue knows is in its configuration: `load` (with `loop`) and `recording`."""
    asked = entry.load(folder.name)
    prompts = folder / entry.prompts if entry.prompts is not None else None
    run_id = folder.name if folder.name == entry.name else f"{entry.name}-{folder.name}"
    hardware = entry.hardware if (CONF / "hardware" / f"{entry.hardware}.yaml").is_file() else None
    model = entry.model if isinstance(entry.about["model"], str) else None  # a choice of conf/model; else the recording has the shape
    options = Options(run_id=run_id, prompts=prompts, hardware=hardware, model=model)
    run = import_run(folder, options)
    if entry.cold:
        run = import_run(folder, dataclasses.replace(options, last=len(run.trace) - entry.cold))
    load = {**run.config["load"], "rate": asked.rate, "loop": asked.loop, "concurrency": asked.concurrency}
    origin = {"repository": entry.origin.repository, "commit": entry.origin.commit, "licence": entry.origin.licence}
    known = {"name": entry.name, "gpu": entry.gpu, "run": folder.name, "calibrate_by": entry.calibrate_by}
    failed = sum(record.error is not None for record in run.records)
    reason = f"{failed} of {len(run.records)} requests failed" if failed > FAILED * len(run.records) else None
    known_run = dataclasses.replace(
        run,
        valid=run.valid and reason is None,
        invalid_reason=run.invalid_reason or reason,
        workload=asked.workload,
        trace=dataclasses.replace(run.trace, name=asked.workload),
        rate=asked.rate,
        repeat=asked.repeat,
        config={**run.config, "workload": {"name": asked.workload}, "load": load, "recording": known},
        provenance={**run.provenance, "published": origin, "known_to_be_wrong": list(entry.wrong)},
    )
    return known_run if asked.generated is None else _generating(known_run, asked.generated)


def _generating(run: Run, tokens: int) -> Run:
    """The run, every request of which asked for and got so many output tokens, whatever was counted."""
    counts = [record.output_tokens for record in run.records if record.output_tokens is not None]
    said = f"{tokens} of every request, as the client asked with ignore_eos; the counts in the file ({min(counts)} to {max(counts)}) are "
    return dataclasses.replace(
        run,
        trace=dataclasses.replace(run.trace, requests=tuple(dataclasses.replace(r, output_tokens=tokens) for r in run.trace)),
        records=tuple(r if r.error is not None else dataclasses.replace(r, output_tokens=tokens) for r in run.records),
        provenance={**run.provenance, "assumed": {**run.provenance["assumed"], "output_tokens": said + "of its text, tokenised once more"}},
    )


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)
