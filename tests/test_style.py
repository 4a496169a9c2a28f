"""Rules of the house that a reader relies on: rooms that say what is in them, one name for one class, words that name what is there."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from results.project.folder import CONF, ROOT
from tests.source import PACKAGES, module_of, product_files, product_folders, tree, words

MOST_FILES = 17  # of code in one folder
CODE = {".py", ".sql", ".js", ".css"}
MANY_FIELDS = 8  # of a class: from here on each says on its own line what it is
FIRST = re.compile(r"Read first: `([\w/]+\.py)`")
FILE = re.compile(r"(?<![\w*/.-])[\w./-]*\w\.py\b")
NAME = re.compile(rf"(?<![\w./-])(?:{'|'.join((*PACKAGES, 'tests'))})(?:\.[A-Za-z_]\w*)+(?!/)")

# files of other projects that this one's docstrings and comments name
ELSEWHERE = {
    "vidur/profiling/utils/__init__.py",
    "vllm/config/vllm.py",
    "vllm/v1/core/kv_cache_utils.py",
    "vllm/v1/engine/coordinator.py",
    "vllm/v1/engine/core.py",
    "vllm/v1/engine/core_client.py",
    "etalon/metrics/metric_utils.py",
    # AIConfigurator
    "sdk/models/moe.py",
    "collector/vllm/collect_gemm.py",
    "collector/vllm/collect_mla_module.py",
    "collector/vllm/collect_moe.py",
    "sarathi/core/scheduler/sarathi_scheduler.py",
    # vLLM, and NIXL under it
    "vllm/v1/attention/backends/fa_utils.py",
    "vllm/model_executor/layers/logits_processor.py",
    "vllm/core/scheduler.py",
    "vllm/benchmarks/serve.py",
    "_api.py",
    # SGLang
    "python/sglang/bench_serving.py",
    "sglang/benchmark/serving.py",
    "sglang/srt/mem_cache/unified_radix_cache.py",
    "unified_cache/unified_tree_core.py",
    "components/full.py",
    "allocator/base.py",
    "sglang/srt/managers/scheduler.py",
    "managers/schedule_policy.py",
    "schedule_policy.py",
    "schedule_batch.py",
    "scheduler_components/batch_result_processor.py",
    "server_args.py",
    "environ.py",
    "layers/attention/torch_native_backend.py",
    # other benchmarks, in results/dialects.sql
    "genai_perf/profile_data_parser/llm_profile_data_parser.py",
    "src/guidellm/schemas/request_stats.py",
    "statistics.py",
    "inference_perf/reportgen/base.py",
    "token_benchmark_ray.py",
    "openai_chat_completions_client.py",
}


def spoken_files() -> list[Path]:
    """The files whose words are held to what is there: Python, SQL, and the YAML of conf/."""
    found = [path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*.py")]
    found += [*(ROOT / "results").glob("*.sql"), *CONF.rglob("*.yaml"), *(ROOT / "tests" / "conf").rglob("*.yaml")]
    return sorted(path.relative_to(ROOT) for path in found)


PYTHON = {path for path in spoken_files() if path.suffix == ".py"}
MODULES = {module_of(path): path for path in PYTHON} | {".".join(folder.parts): None for path in PYTHON for folder in path.parents}


# --- rooms


@pytest.mark.parametrize("folder", product_folders(), ids=str)
def test_a_folder_says_what_lives_there_and_what_to_read_first(folder: Path) -> None:
    path = folder / "__init__.py"
    assert (ROOT / path).is_file()
    said = ast.get_docstring(tree(path)) or ""
    assert len(tree(path).body) == 1, "a docstring only: drivers run beside it in environments that have none of our packages"
    first = FIRST.search(said)
    assert first and (ROOT / folder / first[1]).is_file()


@pytest.mark.parametrize("folder", product_folders(), ids=str)
def test_a_folder_holds_no_more_files_than_a_reader_can_keep_in_mind(folder: Path) -> None:
    files = [path.name for path in (ROOT / folder).iterdir() if path.suffix in CODE]
    assert len(files) <= MOST_FILES, sorted(files)


# --- names


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in product_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_every_file_that_is_mentioned_exists() -> None:
    assert [f"{path}:{line}: {name}" for path, line, name in mentioned(FILE) if not is_file(name, path)] == []


def test_every_dotted_name_that_is_mentioned_exists() -> None:
    wrong = [(path, line, name) for path, line, name in mentioned(NAME) if not (is_name(name) or is_setting(name))]
    assert [f"{path}:{line}: {name}" for path, line, name in wrong if not name.endswith((".py", ".sql"))] == []


def mentioned(pattern: re.Pattern[str]) -> Iterator[tuple[Path, int, str]]:
    """Where a docstring, a comment or a YAML file has something of this pattern."""
    for path in spoken_files():
        yield from ((path, line, name) for line, text in words(path) for name in pattern.findall(text))


def is_file(name: str, mentioned_in: Path) -> bool:
    """Whether a file is there: by its path, or by the end of it in the package that mentions it."""
    if name in ELSEWHERE or Path(name) in PYTHON:
        return True
    package = mentioned_in.parts[0]
    near = [path for path in PYTHON if package in ("conf", "tests") or path.parts[0] == package]
    return any(str(path).endswith(f"/{name}") for path in near)


def is_name(dotted: str) -> bool:
    """Whether it is a module, or something in one: a function, a class, what a class has."""
    parts = dotted.split(".")
    rest: list[str] = []
    while ".".join(parts) not in MODULES:
        rest.insert(0, parts.pop())
    path = MODULES[".".join(parts)]
    body = [] if path is None else tree(path).body
    for name in rest:
        node = next((node for node in body if name in defined(node)), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def defined(node: ast.stmt) -> set[str]:
    """The names that a statement gives to something."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def is_setting(dotted: str) -> bool:
    """Whether a command line names a setting so: simulators.native, or simulators.native.arrangement.kind."""
    package, *keys = dotted.split(".")
    files = [folder / "simulator" / f"{keys[0]}.yaml" for folder in (CONF, ROOT / "tests" / "conf")]
    found = next((yaml.safe_load(file.read_text()) for file in files if file.is_file()), None)
    for key in keys[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return package == "simulators" and found is not None


# --- classes


def long_classes() -> Iterator[tuple[Path, ast.ClassDef, list[ast.AnnAssign]]]:
    """The classes with many fields (dataclasses, NamedTuples), and the fields."""
    for path in product_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                annotated = [field for field in node.body if isinstance(field, ast.AnnAssign)]
                fields = [field for field in annotated if "ClassVar" not in ast.unparse(field.annotation)]
                if len(fields) >= MANY_FIELDS:
                    yield path, node, fields


def test_a_class_with_many_fields_says_at_each_what_it_is() -> None:
    silent = [(f"{path}: {node.name}", silent_fields(path, fields)) for path, node, fields in long_classes()]
    assert "\n".join(f"{name}: {', '.join(fields)}" for name, fields in silent if fields) == ""


def silent_fields(path: Path, fields: list[ast.AnnAssign]) -> list[str]:
    """The fields without a comment on their own line or on the line above."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [
        ast.unparse(field.target)
        for field in fields
        if "#" not in lines[(field.end_lineno or field.lineno) - 1] and not lines[field.lineno - 2].lstrip().startswith("#")
    ]
