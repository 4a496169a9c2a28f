"""Who may import whom: packages, the folders (wings) inside a package, and no circle anywhere."""

from collections import defaultdict
from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.source import PACKAGES, import_graph, imports_of, module_of, product_files, product_folders

# workloads <- results <- {harness, simulators}; analysis imports results and workloads only
MAY_IMPORT: Mapping[str, Set[str]] = {
    "workloads": set(),
    "results": {"workloads"},
    "harness": {"workloads", "results"},
    "simulators": {"workloads", "results"},
    "analysis": {"workloads", "results"},
}

ROOT_FILES = ""  # the package's own files, which stand beside its wings
A_FOREIGN_SIMULATOR = {"errors", "inputs", "simulator", "foreign"}  # never another simulator, and never our own

# Each package's wings, and what of the package each may import besides itself: other wings, and files that stand beside them.
WINGS: Mapping[str, Mapping[str, Set[str]]] = {
    "harness": {
        ROOT_FILES: {"command_line", "engines", "grid", "microbench", "monitor", "probing", "replay"},
        "replay": {"engine"},
        "monitor": {"engine"},
        "engines": {"engine", "environment", "monitor"},
        "probing": {"engine", "protocols", "monitor", "replay"},
        "microbench": {"engine", "environment", "engines", "replay", "cli"},
        "command_line": {"environment", "console"},
        # search: a main path of its own, as bench.py is, made of cells
        "search": {
            "cell",
            "cli",
            "command_line",
            "console",
            "engine",
            "engines",
            "environment",
            "gates",
            "probing",
            "protocols",
            "replay",
            "settings",
        },
        "doctor": {"environment_state", "monitor"},  # it must run where half of everything is missing
        # grid stands between the main path's two halves: study and campaign call it, and it measures cells (cell, cli for the errors of
        # their settings) and simulates runs (simulate, simulation); a study of points says itself what made it (provenance)
        "grid": {
            "engine",
            "environment",
            "console",
            "command_line",
            "cell",
            "cli",
            "simulate",
            "simulation",
            "engines",
            "microbench",
            "protocols",
            "provenance",
        },
    },
    "simulators": {
        ROOT_FILES: set(),
        "foreign": {"errors", "simulator"},
        "aisimulate": A_FOREIGN_SIMULATOR,
        "blis": A_FOREIGN_SIMULATOR,
        "distserve": A_FOREIGN_SIMULATOR,
        "frontier": A_FOREIGN_SIMULATOR,
        "sglang_simulator": A_FOREIGN_SIMULATOR,
        "llmservingsim": A_FOREIGN_SIMULATOR,
        "splitwise": A_FOREIGN_SIMULATOR,
        "vidur": A_FOREIGN_SIMULATOR,
        "native": {"errors", "inputs", "simulator"},
        # native: a profile is composed from a model's sizes (architecture), or fitted to requests by serving them on our own engine
        "calibration": {"errors", "inputs", "foreign", "native"},
        # conformance: small traces with known answers, for any simulator
        "conformance": {"errors", "simulator"},
        # silicon: measured points, whose closed loops are served on our own engine, and by AISimulate; AIConfigurator is a program
        "silicon": {"errors", "native", "aisimulate", "foreign"},
    },
    "simulators.calibration": {
        ROOT_FILES: {"operation_tables"},
        "operation_tables": set(),
        "experts": {"operation_tables", "efficiencies"},
    },
    "simulators.conformance": {ROOT_FILES: {"cases"}, "cases": {"answer", "case", "law", "scene"}},
    "simulators.native": {
        ROOT_FILES: {
            "architecture",
            "autoscaling",
            "scheduling",
            "kv",
            "memory",
            "latency",
            "planning",
            "recommending",
            "cluster",
            "effects",
            "fast",
            "frontend",
        },
        "architecture": set(),
        "frontend": {"sequence"},
        "kv": {"sequence"},
        "memory": {"architecture", "kv"},
        "scheduling": {"sequence", "kv"},
        "latency": {"architecture", "sequence"},
        "effects": {"architecture", "sequence", "latency", "scheduling"},
        "fast": {"engine", "served", "kv", "latency", "scheduling", "frontend"},
        # serve: an arrangement whose engines do not look at each other is one engine served several times
        "cluster": {"sequence", "stages", "engine", "serve", "served", "kv", "latency", "scheduling", "frontend"},
        "recommending": {"architecture", "planning", "predictor", "resolve", "latency", "scheduling", "sequence"},
        "autoscaling": {"planning", "recommending", "fast", "frontend", "served"},
        "planning": {"architecture", "predictor", "resolve", "frontend", "cluster", "effects", "latency", "memory", "scheduling"},
    },
    "results": {
        ROOT_FILES: {"derived", "project", "recordings", "storage"},
        "derived": {"cells", "live", "record", "project", "storage"},
        "project": set(),
        "storage": {"operations", "project", "record", "record_table"},
        "recordings": {"project", "record", "storage"},
        "catalogue": {"project", "record", "recordings", "storage"},
        "silicon": set(),
    },
    "results.recordings": {
        ROOT_FILES: {"tools"},
        "tools": {"about", "recording", "server_info"},
    },
    "analysis": {
        ROOT_FILES: {"page", "scoring", "study"},
        "silicon": {"axes", "names", "plots", "page"},
        "comparison": {"data", "requests", "stats", "names", "tables", "scoring", "page", "plots"},
        "plan": {"axes", "names", "plots", "page"},
        "scoring": {"data", "requests", "stats"},
        "page": {"data", "names", "plots", "tables"},
        "study": {"data", "names", "plots", "stats", "page", "scoring"},
    },
}

GRAPH = import_graph(product_files())


def room(module: str, package: str) -> str | None:
    """The file or folder of a package that a module is or lies in; None when it is elsewhere, or the package's __init__.py."""
    return module.removeprefix(f"{package}.").split(".")[0] if module.startswith(f"{package}.") else None


def imported_rooms(package: str) -> dict[str, dict[str, set[str]]]:
    """wing -> the wings and files of its package that it imports -> the modules that do."""
    wings = WINGS[package].keys()
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module, imported in GRAPH.items():
        if (mine := room(module, package)) is None:
            continue
        wing = mine if mine in wings else ROOT_FILES
        others = {other for target in imported if (other := room(target, package)) not in (None, mine)}
        for other in others:
            if wing != ROOT_FILES or other in wings:  # among themselves the files beside the wings may, but for circles
                found[wing][str(other)].add(module)
    return found


def circle(graph: Mapping[str, Set[str]]) -> str:
    """A circle, as `a <- b <- a`; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    files = [path for path in product_files() if path.parts[0] == package]
    assert files
    ours = {*PACKAGES, "tests"} - MAY_IMPORT[package] - {package}
    imported = {str(path): {name.split(".")[0] for name in imports_of(path)} for path in files}
    assert {path: wrong for path, packages in imported.items() if (wrong := packages & ours)} == {}


@pytest.mark.parametrize("package", WINGS)
def test_every_folder_of_a_package_is_a_wing_with_rules(package: str) -> None:
    folder = Path(*package.split("."))
    assert {path.name for path in product_folders() if path.parent == folder} == WINGS[package].keys() - {ROOT_FILES}


@pytest.mark.parametrize("package", WINGS)
def test_a_wing_imports_only_what_its_row_says(package: str) -> None:
    wrong = {
        f"{wing or 'files beside the wings'} -> {other}": sorted(modules)
        for wing, others in imported_rooms(package).items()
        for other, modules in others.items()
        if other not in WINGS[package][wing]
    }
    assert wrong == {}


@pytest.mark.parametrize("package", WINGS)
def test_no_row_allows_a_wing_that_nobody_imports(package: str) -> None:
    found, wings = imported_rooms(package), WINGS[package].keys()
    assert [f"{wing} -> {other}" for wing in wings for other in WINGS[package][wing] if other in wings and other not in found[wing]] == []


def test_no_file_imports_itself_in_a_circle() -> None:
    assert circle(GRAPH) == ""


@pytest.mark.parametrize("folder", [Path(), *product_folders()], ids=str)
def test_no_two_rooms_of_a_folder_import_each_other(folder: Path) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    package = ".".join(folder.parts)
    for module, imported in GRAPH.items():
        mine = room(module, package) if package else module.split(".")[0]
        for target in imported:
            other = room(target, package) if package else target.split(".")[0]
            if mine is not None and other is not None and mine != other:
                graph[mine].add(other)
    assert circle(graph) == ""


def test_the_files_that_are_read_are_those_that_python_imports() -> None:
    assert {module_of(path) for path in product_files()} == GRAPH.keys()
    assert GRAPH["results.database"] >= {"results.storage.place"} and "results.profile" in GRAPH["simulators.native.adapter"]
