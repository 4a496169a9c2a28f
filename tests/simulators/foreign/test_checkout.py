"""Pinned commits of repositories that the real git made here: whole or not at all, unedited, and one clear line when there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.errors import NotAvailable, SimulatorError
from simulators.foreign.checkout import Repository, configured, importing

VARIABLE = "PLUMBLINE_TOY_GIT"


def git(folder: Path, *words: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True, env=environ)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository of two commits, which say `old` and `new`."""
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q")
    for word in ("old", "new"):
        (folder / "word.txt").write_text(word)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", word)
    return folder


def repository(source: object, commit: str) -> Repository:
    return Repository(name="toy_sim", url=str(source), commit=commit)


def test_a_pinned_commit_is_fetched_not_the_newest(source: Path, tmp_path: Path) -> None:
    old = git(source, "rev-parse", "HEAD~1")
    folder = repository(source, old).checkout(tmp_path / "cache")
    assert (folder / "word.txt").read_text() == "old"
    assert folder.name == f"toy_sim@{old}"
    assert repository(source, old).version == f"git-{old[:7]}"


def test_a_bare_clone_serves_as_well(source: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(source), "bare.git")
    folder = repository(tmp_path / "bare.git", git(source, "rev-parse", "HEAD~1")).checkout(tmp_path / "cache")
    assert (folder / "word.txt").read_text() == "old"


def test_once_there_the_source_is_not_needed(source: Path, tmp_path: Path) -> None:
    pinned = repository(source, git(source, "rev-parse", "HEAD"))
    first = pinned.checkout(tmp_path / "cache")
    source.rename(tmp_path / "gone")
    assert pinned.checkout(tmp_path / "cache") == first


def test_what_is_imported_is_compiled_once_and_leaves_the_checkout_as_it_was(source: Path, tmp_path: Path) -> None:
    (source / "toy.py").write_text("print(__cached__)\n")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "a module")
    pinned = repository(source, git(source, "rev-parse", "HEAD"))
    folder = pinned.checkout(tmp_path / "cache")
    compiled = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-P", "-c", "import toy"], env=importing(folder), capture_output=True, text=True, check=True)
        kept = Path(done.stdout.strip())
        compiled.append((kept, kept.stat().st_ino))
    assert compiled[0] == compiled[1] and kept.is_relative_to(tmp_path / "cache") and not kept.is_relative_to(folder)
    assert pinned.checkout(tmp_path / "cache") == folder


def test_files_that_a_copy_lacks_are_left_out_where_they_can_be_spared(source: Path, tmp_path: Path) -> None:
    (source / "large.csv").write_text("large")
    (source / "unwanted.txt").write_text("unwanted")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "a large file")
    git(source, "config", "uploadpack.allowFilter", "true")
    blob = git(source, "rev-parse", "HEAD:large.csv")
    pinned = Repository(
        name="toy_sim",
        url=str(source),
        commit=git(source, "rev-parse", "HEAD"),
        paths=("*.txt", "*.csv", "!unwanted.txt"),
        spare=("*.csv",),
    )
    whole = pinned.checkout(tmp_path / "whole")
    (source / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    part = pinned.checkout(tmp_path / "part")
    assert [sorted(path.name for path in folder.glob("*.*") if path.is_file()) for folder in (whole, part)] == [
        ["large.csv", "word.txt"],
        ["word.txt"],
    ]
    assert pinned.checkout(tmp_path / "part") == part


def test_without_a_copy_one_line_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable) as error:
        repository(tmp_path / "nowhere", "0" * 40).checkout(tmp_path / "cache")
    text = str(error.value)
    assert "\n" not in text
    for word in ("toy_sim: no copy of commit 0000000", VARIABLE, "simulators.toy_sim.repository", "make simulators"):
        assert word in text


def test_a_commit_that_the_source_lacks_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(NotAvailable, match="no copy of commit 0123456"):
        repository(source, "0123456789" * 4).checkout(cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("edit", ["word.txt", "new_module.py"])
def test_an_edited_copy_is_refused(source: Path, tmp_path: Path, edit: str) -> None:
    pinned = repository(source, git(source, "rev-parse", "HEAD"))
    folder = pinned.checkout(tmp_path / "cache")
    (folder / edit).write_text("edited")
    with pytest.raises(SimulatorError, match=f"toy_sim: .*{edit}.*delete that folder") as error:
        pinned.checkout(tmp_path / "cache")
    assert not isinstance(error.value, NotAvailable)


@pytest.mark.parametrize("commit", ["8f99e7d", "HEAD", "g" * 40])
def test_a_commit_is_all_forty_digits(commit: str) -> None:
    with pytest.raises(ValueError, match="all 40 hexadecimal digits"):
        repository("somewhere", commit)


def test_the_simulators_are_pinned_and_their_source_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PLUMBLINE_SPLITWISE_GIT", "PLUMBLINE_DISTSERVE_GIT", "PLUMBLINE_VIDUR_GIT"):
        monkeypatch.delenv(variable, raising=False)
    known = {r.name: r for r in configured()}
    assert known["splitwise_sim"].version == "git-8f99e7d"
    assert known["distserve_sim"].version == "git-82831f1"
    assert all(r.url.startswith("https://github.com/") for r in known.values())
    for name in known:
        monkeypatch.setenv(known[name].variable, f"/some/{name}")
    assert {r.name: r.url for r in configured()} == {name: f"/some/{name}" for name in known}
