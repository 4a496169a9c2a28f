"""A pinned commit of a public git repository in a folder of its own: whole, or not there; and whether somebody has edited it since."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from results.project.folder import ROOT

LIMIT = 300  # s for one git command
REDIRECTS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")  # set in a git hook, and then about another repository


class GitError(RuntimeError):
    """A commit that cannot be had; the message is git's last line."""


def check_commit(commit: str, of: str) -> None:
    """Raise ValueError for what is not a whole commit id: a short one, or a branch, may mean something else tomorrow."""
    if len(commit) != 40 or not set(commit) <= set("0123456789abcdef"):
        raise ValueError(f"{of}: commit must be all 40 hexadecimal digits, got {commit!r}")


def fetch(url: str, commit: str, folder: Path, paths: Sequence[str] = ()) -> None:
    """Put a commit's files into `folder`, which is not there yet. url: anything that git can fetch from; a relative path starts at the
    project's folder. paths: in gitignore's form, the only files that are wanted; the others are not even fetched where the server lets
    one choose. Raises GitError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    partly = ("--filter=blob:none",) if paths else ()
    try:
        for words in (
            ("init", "-q"),
            ("remote", "add", "origin", _address(url)),
            ("-c", "protocol.version=2", "fetch", "-q", "--no-tags", "--depth", "1", *partly, "origin", commit),
            *((("sparse-checkout", "set", "--no-cone", *paths),) if paths else ()),
            ("checkout", "-q", "--detach", commit),
        ):
            done = _git("-C", str(scratch), *words)
            if done.returncode != 0:
                raise GitError((done.stderr.strip().splitlines() or ["git said nothing"])[-1])
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def resolved(ref: str, folder: Path) -> str:
    """The commit that a branch, a tag or a shortened id means in a checkout, all 40 digits. Raises GitError."""
    try:
        done = _git("-C", str(folder), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(str(error)) from error
    if done.returncode != 0:
        raise GitError(f"{folder}: git knows no {ref!r} there{f' ({done.stderr.strip()})' if done.stderr.strip() else ''}")
    return done.stdout.strip()


def edited(folder: Path) -> str | None:
    """What differs in a fetched folder from its commit, git's first line; None: nothing does."""
    done = _git("--git-dir", str(folder / ".git"), "--work-tree", str(folder), "status", "--porcelain")
    if done.returncode != 0 or done.stdout.strip():
        return (done.stdout or done.stderr).strip().splitlines()[0]
    return None


def _address(url: str) -> str:
    local = ROOT / url
    return str(local) if local.is_dir() else url


def _git(*words: str) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if k not in REDIRECTS}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "20", "LC_ALL": "C"}
    return subprocess.run(["git", *words], capture_output=True, text=True, env=environ, timeout=LIMIT, check=False)
