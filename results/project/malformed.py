"""A YAML file that cannot be read, in one line: which file, where in it, what is wrong."""

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from results.project.folder import CONF, ROOT


def malformed(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """FILE:LINE: not YAML: WHY, as told by the error of the reader."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        why = getattr(error, "problem", None) or getattr(error, "context", None) or "it cannot be read"
        return f"{_short(mark.name)}:{mark.line + 1}: not YAML: {why}; mend that line (column {mark.column + 1})"
    name = getattr(error, "name", None) or next(map(str, filter(_is_binary, sorted(CONF.rglob("*.yaml")))), "a YAML file")
    return f"{_short(name)}: not YAML: {getattr(error, 'reason', error)}; save it as UTF-8 text"


def _is_binary(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _short(name: str) -> str:
    return name.removeprefix(f"{ROOT}/")
