"""Who may import whom: workloads <- results <- {harness, simulators}; analysis imports results and workloads only."""

import ast
from pathlib import Path

import pytest

from results.project import ROOT

MAY_IMPORT = {
    "workloads": set[str](),
    "results": {"workloads"},
    "harness": {"workloads", "results"},
    "simulators": {"workloads", "results"},
    "analysis": {"workloads", "results"},
}


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {module.split(".")[0] for module in modules} & {*MAY_IMPORT, "tests"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(p.relative_to(ROOT)): sorted(imported_packages(p) - MAY_IMPORT[package] - {package}) for p in files}
    assert {name: packages for name, packages in wrong.items() if packages} == {}
