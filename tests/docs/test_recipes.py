"""The recipes of CONTRIBUTING.md followed to the letter in a copy of the tree: files made, commands run, what they print compared."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from results.project.folder import ROOT
from tests.benches import PATIENT_GATES
from tests.docs.pages import Block, arguments, as_module, blocks, commands

RECIPES = ("## Add a workload", "## Add an engine", "## Add a simulator")
COPIED = ("workloads", "results", "harness", "simulators", "analysis", "conf", "tests", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("runs", "campaign", "studies", "*.duckdb*", "*.html.tmp", "sglang_*_logs", "perf")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the code with the recipes' files in it, and the environments of this one."""
    copy = tmp_path_factory.mktemp("recipes") / "plumbline"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=LEFT_OUT)
        else:
            shutil.copy2(source, copy / name)
    (copy / ".envs").symlink_to(ROOT / ".envs")
    for block in recipe_blocks():
        if block.title is not None:
            assert not (ROOT / block.title).exists(), f"{block.title} is there already: a recipe must show a new file"
            (copy / block.title).parent.mkdir(exist_ok=True)
            (copy / block.title).write_text(block.text)
    yield copy


def recipe_blocks() -> list[Block]:
    return [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.title is not None or block.language == "text" or is_run(block)]


def is_run(block: Block) -> bool:
    return block.language == "sh" and "./plumbline" in block.text


def run(words: Sequence[str], folder: Path) -> str:
    """What a command prints when it is run in the copy. A bench gets patience with the machine's other work on top."""
    patience = PATIENT_GATES if words[1] == "bench" and "engine=recorded" not in words else ()
    environ = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    done = subprocess.run([*as_module(words), *patience], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stderr}\n{done.stdout}"
    return done.stdout


def words_of(line: str) -> list[str]:
    """A printed line's words, figures left out."""
    return re.findall(r"[A-Za-z_]+", line)


def test_each_recipe_has_files_a_command_and_what_it_prints() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for head in RECIPES:
        recipe = text.partition(f"\n{head}\n")[2].partition("\n## ")[0]
        for language in ("python", "yaml", "sh", "text"):
            assert f"```{language}\n" in recipe, (head, language)


def test_the_recipes_as_written_print_what_they_say(tree: Path) -> None:
    printed: list[str] = []
    for block in recipe_blocks():
        if is_run(block):
            printed = [line for command in commands(block) for line in run(arguments(command), tree).splitlines()]
        elif block.language == "text":
            told = [words_of(line) for line in printed]
            for line in block.text.splitlines():
                assert words_of(line) in told, f"{line}\nis not among\n" + "\n".join(printed)


def test_the_recipes_code_is_as_the_linter_wants_it(tree: Path) -> None:
    files = [block.title for block in recipe_blocks() if block.language == "python" and block.title is not None]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], cwd=tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
