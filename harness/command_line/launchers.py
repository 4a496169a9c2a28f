"""Hydra's launchers: whether the chosen one is here, and which of them may measure."""

import importlib.util
import os
import re
import sys
from collections.abc import Sequence

from harness import environment
from harness.console import stage

PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
}
TOGETHER = ("joblib", "ray", "submitit_local")  # they run jobs side by side, on one machine or on whichever has a free core
ENVIRONMENT = "launchers"  # holds Ray and the core, which stays without it


def chosen(arguments: Sequence[str]) -> str:
    """The launcher that the command line names."""
    names = [found[1] for word in arguments if (found := re.fullmatch(r"hydra/launcher=(\w+)", word))]
    return names[-1] if names else "basic"


def usual() -> str:
    """The launcher of a study's simulations where the command line names none: all cores of this machine."""
    return "joblib" if _is_here("joblib") else "basic"


def refusal(arguments: Sequence[str], *, measures: bool) -> str | None:
    """Why this command line cannot be done with its launcher, in a line; None: it can. measures: whether its jobs measure engines."""
    launcher = chosen(arguments)
    if launcher != "basic" and launcher not in PACKAGES:
        return f"hydra/launcher={launcher} is not known here; known: basic, {', '.join(PACKAGES)}"
    if not measures or launcher not in TOGETHER or not _is_multirun(arguments) or _all_recorded(arguments):
        return None
    return (
        f"hydra/launcher={launcher} would measure several engines at once on the same cores or GPU, and each would slow the others: "
        "leave it out (one after another), or give it measured runs (python -m harness.simulate -m engine=recorded engine.run=A,B)"
    )


def go_where_it_is(arguments: Sequence[str]) -> str | None:
    """See that the launcher can be imported; Ray's is in an environment of its own, with which this program starts anew.

    Returns a line when it cannot be had. Raises EngineError when that environment cannot be made.
    """
    launcher = chosen(arguments)
    if launcher == "basic" or _is_here(launcher):
        return None
    if launcher.startswith("ray") and os.environ.get("PLUMBLINE_LAUNCHER") != launcher:
        with stage("environment", ENVIRONMENT):
            python = str(environment.ensure(ENVIRONMENT))
        program = sys.modules["__main__"].__spec__
        assert program is not None
        os.environ["PLUMBLINE_LAUNCHER"] = launcher  # once: an environment without it must not start itself for ever
        os.execv(python, [python, "-m", program.name.removesuffix(".__main__"), *arguments])
    package = PACKAGES[launcher]
    return (
        f"hydra/launcher={launcher} needs {package}, which {sys.executable} lacks: use .envs/core (make setup), or install {package} there"
    )


def _is_here(launcher: str) -> bool:
    name = f"hydra_plugins.{PACKAGES[launcher].replace('-', '_')}"
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def _is_multirun(arguments: Sequence[str]) -> bool:
    return any(word in ("-m", "--multirun") or word.lower() == "hydra.mode=multirun" for word in arguments)


def _all_recorded(arguments: Sequence[str]) -> bool:
    engines = [word.removeprefix("engine=") for word in arguments if word.startswith("engine=")]
    return engines != [] and all(engine == "recorded" for engine in engines)
