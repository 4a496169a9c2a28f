"""The project's own source as the tests of layers and style read it: which files there are, what they import, what they say in words."""

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from results.project.folder import ROOT

PACKAGES = ("workloads", "results", "harness", "simulators", "analysis")


def product_files() -> list[Path]:
    """Every Python file of the product, relative to ROOT."""
    return [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def product_folders() -> list[Path]:
    """Every folder of product code, relative to ROOT."""
    return sorted({path.parent for path in product_files()})


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    """The dotted name of a file; a folder's for its __init__.py."""
    return ".".join(path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever in it: at the top, inside a function, under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}:{node.lineno}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def import_graph(files: list[Path]) -> dict[str, set[str]]:
    """Each of these files' modules to those of them that it imports."""
    modules = {module_of(path): path for path in files}
    return {module: imports_of(path) & modules.keys() - {module} for module, path in modules.items()}


def words(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of all that a file says to its reader: docstrings and comments; of YAML everything, of SQL the comments."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix != ".py":
        lines = enumerate(text.splitlines(), 1)
        yield from ((number, line) for number, line in lines if path.suffix != ".sql" or "--" in line)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            yield node.body[0].lineno, ast.get_docstring(node) or ""
