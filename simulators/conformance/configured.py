"""A simulator as conf/simulator has it, with settings of the command line on top."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from results.project.folder import CONF
from simulators.simulator import Simulator


def configured(name: str, words: Sequence[str]) -> Simulator:
    """words: KEY=VALUE, as a bench takes them. Raises ValueError, in one line, for a name, a word or a value that is none."""
    known = sorted(path.stem for path in (CONF / "simulator").glob("*.yaml"))
    if name not in known:
        near = " or ".join(get_close_matches(name, known, n=2))
        raise ValueError(f"no simulator is called {name!r}; {f'did you mean {near}? ' if near else ''}known: {', '.join(known)}")
    if stray := next((word for word in words if "=" not in word), None):
        raise ValueError(f"{stray!r} is no setting: give KEY=VALUE, e.g. simulators.{name}.limit=60")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("bench", overrides=[f"simulator=[{name}]", *words])
        made: Any = instantiate(cfg.simulators[name], _convert_="all")
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(str(cause).splitlines()[0]) from error
    simulator: Simulator = made
    return simulator
