"""The paths among the words of a Hydra command line, as the project's folder sees them (results/project/caller.py)."""

import re
from collections.abc import Sequence
from pathlib import Path

from results.project.caller import given

SETTINGS = (  # of conf/, whose values are files or folders
    r"paths\.\w+|report\.(out|database)|out|workload(\.source)?\.(path|tokenizer)|engine\.python|model\.path|calibration\.data|simulators\.vidur\.checkout"
)
RUN = "engine.run"  # a run's id, or its folder
FLAGS = ("--config-dir", "-cd")
PLAIN = r"[\w./+-]+"  # what Hydra's grammar takes without quotes


def with_given_paths(words: Sequence[str]) -> list[str]:
    """The words, each relative path in them made one of the caller's folder. Quotes of Hydra's grammar are kept or put where needed."""
    done: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if done and done[-1] in FLAGS:
            done.append(given(word))
        elif equals and name in FLAGS:
            done.append(f"{name}={given(value)}")
        elif equals and value:
            done.append(f"{name}={_value(name.lstrip('+'), value)}")
        else:
            done.append(word)
    return done


def _value(name: str, value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    path = value[1:-1] if quoted else value
    if name == RUN:
        several = "," in path and not quoted  # a sweep over ids, maybe longer than any path
        is_path = not several and (Path(given(path)) / "run.json").is_file()
    else:
        is_path = re.fullmatch(SETTINGS, name) is not None and path != "null" and not path.startswith(("$", "["))
    if not is_path or given(path) == path:
        return value
    whole = given(path)
    return whole if re.fullmatch(PLAIN, whole) else "'" + whole.replace("'", "\\'") + "'"
