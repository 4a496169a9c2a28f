"""The catalogue: each entry can be read and says which runs are repeats; what is fetched from a pinned commit becomes measured runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.catalogue import fetching
from results.catalogue.entry import Entry, entries
from results.catalogue.shelf import FETCHED, Shelf, imported, shelf
from results.cells import cell_of
from results.project.folder import ROOT
from results.recordings.recording import RecordingError
from results.storage.store import read_meta, write_run
from tests import project_copy

DATA = Path(ROOT, os.environ.get("PLUMBLINE_DATA") or "../shared/data") / "recordings"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs {DATA}: recordings that others published (./plumbline recordings)")


@pytest.fixture
def toy(entry_text: str, tmp_path: Path) -> Entry:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "toy.yaml").write_text(entry_text)
    (entry,) = entries(tmp_path / "conf")
    return entry


@pytest.fixture
def fetched(toy: Entry, tmp_path: Path) -> Shelf:
    assert fetching.fetched(toy, tmp_path / "cache") == ["closed-4", "open-2rps-first", "open-2rps-second"]
    return Shelf(entries=[toy], roots=[tmp_path / "data", tmp_path / "cache"])


def test_the_catalogue_has_the_sources_that_it_promises() -> None:
    found = entries()
    assert len({entry.origin.repository for entry in found}) == 6 and sum(entry.runs for entry in found) >= 250
    assert len({entry.model for entry in found}) >= 8 and len({entry.hardware for entry in found}) >= 6
    assert all(entry.wrong and entry.about["system"] == "vllm" for entry in found)
    assert len({entry.origin.paths[0] for entry in found}) == 6, "entries of one source fetch the same files: they share a folder"


def test_a_fetched_run_has_the_times_that_its_source_says(fetched: Shelf, toy: Entry) -> None:
    run = fetched.run("toy", "open-2rps-second")
    assert [(r.arrival, r.sent) for r in run.records] == [(0.0, 0.0003), (0.5, 0.5), (1.5, 1.5)]
    assert [r.first_token for r in run.records] == [pytest.approx(0.060001), pytest.approx(0.560001), None]
    assert [(r.input_tokens, r.output_tokens, r.error) for r in run.records][1:] == [(101, 5, None), (None, None, "connection reset")]
    assert not run.valid and run.invalid_reason == "1 of 3 requests failed"
    assert run.provenance["known_to_be_wrong"] == ["The client is far away."]
    assert run.provenance["published"]["licence"] is None and run.provenance["published"]["commit"] == toy.origin.commit


def test_repeats_share_a_cell_and_loads_do_not(fetched: Shelf, tmp_path: Path) -> None:
    metas = {name: read_meta(write_run(tmp_path / "runs", fetched.run("toy", name))) for name in fetched.here(fetched.entries[0])}
    cells = {name: cell_of(meta) for name, meta in metas.items()}
    assert cells["open-2rps-first"] == cells["open-2rps-second"] != cells["closed-4"]
    assert [metas[f"open-2rps-{name}"]["repeat"] for name in ("first", "second")] == [0, 1]
    load = metas["closed-4"]["config"]["load"]
    assert (load["loop"], load["concurrency"], metas["closed-4"]["rate"]) == ("closed", 4, None)
    assert (metas["open-2rps-first"]["config"]["load"]["loop"], metas["open-2rps-first"]["rate"]) == ("open", 2.0)


def test_only_what_is_named_is_fetched_and_edited_files_are_refused(fetched: Shelf, toy: Entry, tmp_path: Path) -> None:
    checkout = fetching.checkout(toy, tmp_path / "cache")
    assert not (checkout / "video.bin").exists() and (checkout / "results" / "pilot" / "1" / "trace.csv").is_file()
    (checkout / "results" / "pilot" / "1" / "trace.csv").write_text("made up\n")
    with pytest.raises(RecordingError, match="delete that folder"):
        fetching.fetched(toy, tmp_path / "cache")


def test_data_that_is_here_counts_before_what_was_fetched(fetched: Shelf, toy: Entry, tmp_path: Path) -> None:
    (tmp_path / "cache" / "toy" / "closed-4").rename(tmp_path / "kept")
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "kept").rename(tmp_path / "data" / "toy" / "closed-4")
    assert {name: folder.parent.parent.name for name, folder in fetched.here(toy).items()} == {
        "closed-4": "data",
        "open-2rps-first": "cache",
        "open-2rps-second": "cache",
    }
    with pytest.raises(RecordingError, match="there is toy"):
        fetched.run("tyo", "closed-4")


def test_without_a_copy_one_line_says_what_to_do(toy: Entry, source: Path, tmp_path: Path) -> None:
    source.rename(tmp_path / "gone")
    with pytest.raises(RecordingError) as error:
        fetching.fetched(toy, tmp_path / "cache")
    assert "PLUMBLINE_TOY_GIT" in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("toy*"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("commit: ", "commit: 12", "40 hexadecimal"), ("name: toy", "name: other", "whose name is toy"), ("gpu:", "gqu:", "gqu")],
)
def test_an_entry_that_is_none_is_one_line(entry_text: str, tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "toy.yaml").write_text(entry_text.replace(old, new))
    with pytest.raises(RecordingError) as error:
        entries(tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_forced_length_counts_where_the_recorded_ones_are_wrong(fetched: Shelf, entry_text: str, tmp_path: Path) -> None:
    (tmp_path / "conf" / "toy.yaml").write_text(entry_text.replace("workload: poisson", "workload: poisson\n    generated: 7"))
    (entry,) = entries(tmp_path / "conf")
    run = imported(entry, fetched.here(entry)["open-2rps-first"])
    assert [r.output_tokens for r in run.trace] == [7, 7, 7] and [r.output_tokens for r in run.records] == [7, 7, None]
    assert "5 to 5" in run.provenance["assumed"]["output_tokens"]


@needs_data
@pytest.mark.parametrize("name", ["h100_qwen3_14b", "a40_qwen2.5_7b", "l40s_qwen2.5_7b", "rtxpro6000_qwen3_30b_a3b"])
def test_recordings_that_are_here_are_imported_as_the_catalogue_says(name: str) -> None:
    known = shelf()
    entry = known.entry(name)
    here = known.here(entry)
    run = imported(entry, next(iter(here.values())))
    assert run.hardware == entry.hardware and run.model == entry.model and run.system == entry.system
    assert run.config["recording"]["name"] == name and run.config["load"]["loop"] in entry.loops
    assert run.window is not None and (run.window[0] > 0) == (entry.cold > 0)


def catalogue(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "results.catalogue", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_and_one_entry_are_printed() -> None:
    listed = catalogue().stdout
    assert all(entry.name in listed for entry in entries()) and "closed" in listed
    one = catalogue("h100_qwen3_14b").stdout
    assert "PLUMBLINE_RESIDENCY_VLLM_GIT" in one and "known: " in one
    wrong = catalogue("h100_qwen")
    assert wrong.returncode == 1 and "h100_qwen3_14b" in wrong.stderr and wrong.stderr.count("\n") == 1
    assert FETCHED.is_relative_to(ROOT / ".cache")


BOTH = sorted((FETCHED / place.parent.relative_to(DATA), place.parent) for place in DATA.glob("*/*/requests.csv"))
TOGETHER = [(one, other) for one, other in BOTH if (one / "requests.csv").is_file()]


@pytest.mark.skipif(not TOGETHER, reason=f"needs recordings both in {DATA} and fetched (./plumbline recordings fetch all)")
def test_what_is_fetched_is_what_the_same_run_is_elsewhere() -> None:
    for mine, theirs in TOGETHER:
        ours, given = (pd.read_csv(folder / "requests.csv").set_index("request_id") for folder in (mine, theirs))
        ours = ours.loc[given.index]  # whoever made the other may have left requests out
        columns = given.columns.difference(["blocks"])  # whose ids may be others
        assert np.abs(ours[columns] - given[columns]).max().max() < 3e-6, mine


def test_fetch_imports_what_it_can_and_says_what_it_cannot(entry_text: str, tmp_path: Path) -> None:
    """Through the door, on a copy of the code whose catalogue has one entry; a second call imports nothing anew."""
    project = project_copy.whole(tmp_path / "project")
    for path in (project / "conf" / "recording").glob("*.yaml"):
        path.unlink()
    (project / "conf" / "recording" / "toy.yaml").write_text(entry_text)

    def fetch(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [str(project / "plumbline"), "recordings", "fetch", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    for new in (3, 0):
        done = fetch("toy", "--root", "runs")
        assert (done.returncode, done.stdout) == (0, f"toy: 3 runs, {new} new in {tmp_path / 'runs'}\n"), done.stderr
    assert len(list((tmp_path / "runs").glob("toy-*/run.json"))) == 3
    (project / "conf" / "recording" / "toy.yaml").write_text(entry_text.replace("hardware: h100", "hardware: abacus"))
    lost = fetch("all", "--root", "runs")
    assert lost.returncode == 1 and lost.stdout.count("not imported: ") == 3 and "abacus" in lost.stdout
    assert fetch().returncode == 1 and "recordings lists them" in fetch().stderr
