"""The project's pages: their fenced blocks, the commands in them, and what each verb of `./plumbline` runs."""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.project.folder import ROOT

LANGUAGES = ("sh", "text", "python", "yaml", "json", "sql")  # sh: commands, each of them tried; text: what they print
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"`(?P<path>[\w./-]+)`:\n\n\Z")

LAUNCHED = re.compile(r'^  "(?P<verb>[a-z]+)\|(?P<module>[\w. ]+)\|', re.MULTILINE)
# What `./plumbline VERB` runs, as the launcher has it: the module, and the words that go before the user's.
VERBS = {row["verb"]: tuple(row["module"].split()) for row in LAUNCHED.finditer((ROOT / "plumbline").read_text())}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. page: of the project; language: after the fence; title: the file that the line before names, or None."""

    page: str
    language: str
    title: str | None
    text: str


def pages() -> list[Path]:
    """Every page whose commands and links are held to be true."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        title = TITLE.search(text, 0, match.start())
        named = title["path"] if title and title.end() == match.start() else None
        found.append(Block(page=str(page.relative_to(ROOT)), language=match["language"], title=named, text=match["text"]))
    return found


def commands(block: Block) -> list[str]:
    """The commands of a block of shell, continued lines joined, comments and blank lines left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True, posix=False)) for line in lines if shlex.split(line, comments=True)]


def all_commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every command that the pages show."""
    for page in pages():
        for block in blocks(page):
            if block.language == "sh":
                yield from ((block.page, command) for command in commands(block))


def arguments(command: str) -> list[str]:
    """The words of a command as a program gets them."""
    return shlex.split(command)


def as_module(words: Sequence[str]) -> list[str]:
    """`./plumbline VERB WORDS` as the call of this Python that it stands for."""
    module, *first = VERBS[words[1]]
    return [sys.executable, "-m", module, *first, *words[2:]]
