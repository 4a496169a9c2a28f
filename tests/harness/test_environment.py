"""Environments: made by the real uv from a real (tiny, local) wheel; remade when asked for something else; never half."""

import fcntl
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from harness.engine import EngineError
from harness.environment import ensure


def wheel(folder: Path, version: str) -> Path:
    """A wheel of the package `toy`, written by hand: no build tool, no network."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"toy-{version}-py3-none-any.whl"
    info = f"toy-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toy\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"toy.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder whose environment `toy` asks for toy 1.0."""
    require(tmp_path, f"toy @ {wheel(tmp_path / 'wheels', '1.0').as_uri()}")
    return tmp_path


def require(root: Path, *lines: str) -> None:
    file = root / "conf" / "envs" / "toy.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def version(python: Path) -> str:
    return subprocess.run([python, "-c", "import toy; print(toy.VERSION)"], check=True, capture_output=True, text=True).stdout.strip()


def test_installs_what_the_file_says_on_this_python(root: Path) -> None:
    lines: list[str] = []
    python = ensure("toy", root, progress=lines.append)
    assert python == root / ".envs" / "toy" / "bin" / "python"
    assert version(python) == "1.0"
    own = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:3])"], check=True, capture_output=True, text=True)
    assert own.stdout.split() == [str(part) for part in sys.version_info[:3]]
    assert any("toy" in line for line in lines)
    assert "toy" in (root / ".envs" / "toy.log").read_text()


def test_an_environment_that_is_there_is_left_alone(root: Path) -> None:
    mark = ensure("toy", root).parent.parent / "mark"
    mark.touch()
    ensure("toy", root)
    assert mark.exists()


def test_a_changed_file_makes_it_anew(root: Path) -> None:
    mark = ensure("toy", root).parent.parent / "mark"
    mark.touch()
    require(root, f"toy @ {wheel(root / 'wheels', '2.0').as_uri()}")
    assert version(ensure("toy", root)) == "2.0"
    assert not mark.exists()


def test_an_install_that_was_cut_short_is_done_again(root: Path) -> None:
    require(root, f"toy @ {(root / 'nowhere' / 'toy-1.0-py3-none-any.whl').as_uri()}")
    with pytest.raises(EngineError):
        ensure("toy", root)
    assert (root / ".envs" / "toy" / "bin" / "python").exists()  # half an environment: no toy in it
    wheel(root / "nowhere", "1.0")
    assert version(ensure("toy", root)) == "1.0"


def test_failure_is_one_line_with_the_cause_and_the_log(root: Path) -> None:
    missing = root / ("far" * 30) / "toy-1.0-py3-none-any.whl"
    require(root, f"toy @ {missing.as_uri()}")
    with pytest.raises(EngineError) as caught:
        ensure("toy", root)
    message = str(caught.value)
    assert "environment toy: uv could not install" in message and str(missing.parent) in message
    assert str(root / ".envs" / "toy.log") in message and "\n" not in message


def test_unknown_environment_names_the_known_ones(root: Path) -> None:
    with pytest.raises(EngineError, match=r"tyo\.txt is missing; environments that can be made: toy"):
        ensure("tyo", root)


def test_two_that_ask_at_once_wait_for_each_other(root: Path) -> None:
    lock = root / ".envs" / ".toy.lock"
    lock.parent.mkdir()
    program = f"from pathlib import Path; from harness.environment import ensure; ensure('toy', Path({str(root)!r}))"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as another process that installs
        second = subprocess.Popen([sys.executable, "-c", program])
        while not waited_for(lock):
            assert second.poll() is None, "it did not wait"
            time.sleep(0.05)
        assert not (root / ".envs" / "toy").exists()
    assert second.wait() == 0
    assert version(root / ".envs" / "toy" / "bin" / "python") == "1.0"


def waited_for(file: Path) -> bool:
    """Whether a process waits for a lock on `file`: /proc/locks marks it with '->'."""
    inode = f":{file.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("variable", ["UV_FIND_LINKS", "PIP_FIND_LINKS"])
def test_local_wheels_are_handed_on(root: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("UV_OFFLINE", "1")
    require(root, "toy==1.0")
    with pytest.raises(EngineError, match="toy"):
        ensure("toy", root)
    monkeypatch.setenv(variable, str(root / "wheels"))
    assert version(ensure("toy", root)) == "1.0"
