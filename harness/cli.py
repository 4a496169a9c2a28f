"""A Hydra command line: conf/NAME.yaml as its root, and every error that a user can cause in one clear line."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from types import FrameType, MappingProxyType

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from harness.command_line import launchers, usage
from harness.command_line.given_paths import with_given_paths
from harness.command_line.usage import known as known
from harness.console import say
from harness.engine import EngineError
from harness.monitor import gpu
from results.project import caller
from results.project.folder import CONF
from results.project.malformed import malformed

INTERRUPTED = 130
TAKE_A_WORD = r"--(config-dir|config-name|config-path|cfg|package|info|experimental-rerun)|-(cd|cn|cp|c|p|i)"  # flags of Hydra
FLAG = rf"{TAKE_A_WORD}|--(help|hydra-help|version|resolve|run|multirun|shell-completion)|-(h|r|m|sc)"  # all of them


class JobError(RuntimeError):
    """A job of a multirun that ended with an exit code other than 0; it has said why. Any launcher brings an exception back."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main(
    root: str,
    action: Callable[[DictConfig], int],
    overrides: Sequence[str] = (),
    *,
    verb: str | None = None,
    measures: bool = True,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Compose conf/<root>.yaml with the command line and `overrides`, do `action`, exit with the code it returns.

    In a multirun: once per job, by the chosen launcher, exit with the first code that is not 0. verb: of ./plumbline (None: as `root`).
    measures: whether jobs measure engines. renamed: settings by their former names, which are still understood.
    """
    if usage.wanted(sys.argv[1:]):
        print(usage.text(verb or root, root))
        sys.exit(0)
    sys.argv[1:] = with_given_paths([_current_name(word, renamed) for word in sys.argv[1:]])
    os.environ.pop(caller.VARIABLE, None)  # from here on, and for whatever is started, all paths are the project's
    signal.signal(signal.SIGTERM, _interrupt)  # what is terminated cleans up as what is interrupted does
    wrong = stray(sys.argv[1:], verb or root) or check_choices(root, sys.argv[1:]) or launchers.refusal(sys.argv[1:], measures=measures)
    try:
        wrong = wrong or launchers.go_where_it_is(sys.argv[1:])
    except EngineError as error:
        wrong = str(error)
    if wrong is not None:
        sys.exit(fail(wrong))
    _add(overrides)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and its error becomes one line here too
    sys.exit(_composed(root, action))


def main_on_gpu(root: str, action: Callable[[DictConfig], int]) -> None:
    """`main` of what measures an engine: where there is an NVIDIA GPU, with the choices for it, but those that the command line names."""
    if usage.wanted(sys.argv[1:]):
        main(root, action)
    try:
        seen = gpu.look()
        chosen = gpu.choices(seen, sys.argv[1:], known("hardware"))
    except ValueError as error:
        sys.exit(fail(str(error)))
    if chosen and not any(word.startswith("-") for word in sys.argv[1:]):
        say(f"{seen.gpus[0].name}: {' '.join(chosen)} (name any of them to choose otherwise)", style="bold")
    main(root, action, chosen)


def _add(overrides: Sequence[str]) -> None:
    """Put more overrides beside those on the command line: Hydra wants all of them in one place, before or behind its flags."""
    first = next((i for i, word in enumerate(sys.argv) if i > 0 and "=" in word and not word.startswith("-")), len(sys.argv))
    sys.argv[first:first] = overrides


def _composed(root: str, action: Callable[[DictConfig], int]) -> int:
    """Have Hydra compose and do the action; the exit code."""
    code, composed = 0, False

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=root)
    def job(cfg: DictConfig) -> None:
        nonlocal code, composed
        composed = True
        settings = HydraConfig.get()
        os.chdir(settings.runtime.cwd)  # a worker on another machine starts elsewhere
        code = _guarded(cfg, action, not_made(root, cfg, settings.runtime.choices))
        if settings.mode == RunMode.MULTIRUN and code != 0:
            raise KeyboardInterrupt if code == INTERRUPTED else JobError(code)

    try:
        job()
    except JobError as error:
        code = error.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (HydraException, OmegaConfBaseException) as error:
        code = fail(f"{cause(error)} (--cfg job shows every setting)")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        code = fail(malformed(error))
    except Exception as error:  # a launcher's own: a cluster that is not there, a Slurm that is not installed
        if (launcher := launchers.chosen(sys.argv[1:])) == "basic":
            if composed or not isinstance(error, ValueError):
                raise
            return fail(f"conf/{root}.yaml, or a choice of it: {error}")  # Hydra's, of a YAML that is no configuration
        code = fail(f"hydra/launcher={launcher}: {cause(error)}")
    return code


def _current_name(word: str, renamed: Mapping[str, str]) -> str:
    """A word of the command line, its setting by the name that it has today."""
    name, equals, value = word.partition("=")
    return f"{renamed[name]}={value}" if equals and name in renamed else word


def stray(words: Sequence[str], verb: str) -> str | None:
    """A line about the first word that is neither a flag nor KEY=VALUE; None when there is none."""
    before = ""
    for word in words:
        if word.startswith("-") and re.fullmatch(FLAG, word.partition("=")[0]) is None:
            return f"{word!r} is no option: settings have no dashes, e.g. load.rho=0.8 (./plumbline {verb} --help shows what there is)"
        if "=" not in word and not word.startswith(("-", "~")) and re.fullmatch(TAKE_A_WORD, before) is None:
            return f"{word!r} is no setting: give KEY=VALUE, e.g. load.rho=0.8 (./plumbline {verb} --help shows what there is)"
        before = word
    return None


def check_choices(root: str, overrides: Sequence[str]) -> str | None:
    """A line about the first `group=choice` (or `group=[a,b]`) that conf/ does not hold, with the near ones; None when all exist."""
    if any(o.startswith(("--config-dir", "-cd")) for o in overrides):
        return None  # more choices than conf/ has; Hydra itself will tell
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir() and any(folder.glob("*.yaml"))}
    for override in overrides:
        match = re.fullmatch(r"([\w]+)=\[?([\w,\- ]*)\]?", override)
        if match is None:
            continue
        group, choices = match[1], [c.strip() for c in match[2].split(",") if c.strip()]
        if group not in groups:
            near = get_close_matches(group, groups, n=2)
            if near and not _is_root_key(root, group):
                return f"no setting is called {group!r}; did you mean {' or '.join(near)}?"
            continue
        for choice in choices:
            if choice not in known(group):
                return _unknown_choice(f"{group}/{choice}")
    return None


def not_made(root: str, cfg: DictConfig, chosen: Mapping[str, str]) -> str | None:
    """A line about the first chosen file that names no class though others of its group do; None when there is none."""
    for group, _, _ in usage.groups(root):
        node = cfg.get(group)
        if group not in cfg or (isinstance(node, DictConfig) and "_target_" in node):
            continue
        if like := next((path for path in sorted((CONF / group).glob("*.yaml")) if b"_target_:" in path.read_bytes()), None):
            name = f"conf/{group}/{chosen.get(group)}.yaml"
            return f"{name}: it names no class as its _target_, as conf/{group}/{like.name} does; mend the file or choose another"
    return None


def _is_root_key(root: str, name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in (CONF / f"{root}.yaml").read_text().splitlines())


def _guarded(cfg: DictConfig, action: Callable[[DictConfig], int], wrong: str | None) -> int:
    try:
        if missing := OmegaConf.missing_keys(cfg):
            wrong = f"these settings have no value: {', '.join(sorted(missing))}; give them as KEY=VALUE"
        return action(cfg) if wrong is None else fail(wrong)
    except InstantiationException as error:
        return fail(cause(error))
    except (HydraException, OmegaConfBaseException) as error:
        return fail(f"{cause(error)} (--cfg job shows every setting)")
    except KeyboardInterrupt:
        return fail("interrupted; nothing half-written was left, finished runs are kept", code=INTERRUPTED)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return fail(f"the disk is full: {error.filename or error}; free some space, then run again")
        return fail(str(error))
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # of a bench that is composed for a task
        return fail(malformed(error))
    except (RuntimeError, ValueError) as error:
        return fail(str(error))


def fail(line: str, code: int = 1) -> int:
    """Print one line to standard error and return the exit code."""
    print(f"plumbline: {' '.join(line.split())}", file=sys.stderr)
    return code


def cause(error: BaseException) -> str:
    """The innermost reason of an instantiation or a composition that failed, with the setting it came from."""
    where = re.search(r"full_key: (\S+)", str(error))
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and "is not in struct" in str(error):
        return _unknown_setting(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file)
    where = where or re.search(r"full_key: (\S+)", str(error))
    said = str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) and str(error) else str(error)
    if where is None or said.startswith((f"{where[1]}.", f"{where[1]}:")):  # it says itself which setting it is of
        return said
    return f"{where[1]}: {said}"


def _unknown_setting(error: ConfigAttributeError | ConfigKeyError) -> str:
    """A line about a setting that there is not, with those beside it that are written alike."""
    group, _, name = str(error.full_key).rpartition(".")
    beside = [str(key) for key in error.parent_node or () if not str(key).startswith("_")]
    near = [".".join(filter(None, (group, key))) for key in get_close_matches(name, beside, n=2)]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no setting is called {error.full_key!r}{hint}"


def _unknown_choice(file: str) -> str:
    """A line about a file that conf/ does not hold, with the near ones. file: group/choice."""
    group, _, choice = file.rpartition("/")
    near = get_close_matches(choice, known(group), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{group}={choice}: conf/{group}/ has no {choice}.yaml; {hint}known: {', '.join(known(group))}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
