"""Why SGLang ended early, in one line, from its log: its processes print a traceback, and are killed."""

import re
from pathlib import Path

MISFIT = ("AttributeError", "ImportError", "ModuleNotFoundError", "TypeError", "SGLangCompatibilityError")
ADAPT = "must be adapted"  # what its own checks say
RAISED = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception)\b.*)")  # a traceback's last line
SHOWN = 300  # characters of a cause


def cause(log: Path) -> str | None:
    """The exception that ended it, `NAME: message`: the last line of the log's first traceback. None: there is none."""
    within = False
    for line in log.read_text(errors="replace").splitlines() if log.is_file() else []:
        within = within or "Traceback (most recent call last)" in line
        if within and (found := RAISED.match(line)):
            return found[1].strip()[:SHOWN]
    return None


def misfit(found: str) -> bool:
    """Whether an exception says that the simulator was written for another SGLang, or for another AIConfigurator."""
    return found.startswith(MISFIT) or ADAPT in found
