"""The command line's words: KEY=VALUE over conf/native.yaml, and what they name."""

import copy
import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from results.profile import Profile
from results.project.caller import given
from results.project.folder import CONF
from results.project.malformed import malformed
from results.record import SLO
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.effects.effects import Effects
from simulators.native.frontend.settings import StationSettings
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.experts import Routing
from simulators.native.latency.host import Host
from simulators.native.latency.host_path import HostPath
from simulators.native.latency.parallelism import Parallelism
from simulators.native.planning.capacity import MOST, NEXT
from simulators.native.planning.deployment import Deployment, at_rate
from simulators.native.planning.judge import Judge, TraceAt
from simulators.native.planning.schema import wrong
from simulators.native.predictor import Predictor
from simulators.native.resolve import Defaults
from simulators.native.scheduling.policies import POLICIES
from simulators.native.scheduling.speculation import Speculation
from workloads.files import read_csv, read_parquet
from workloads.trace import Trace

PATHS = ("trace", "profile", "out")  # settings that are paths


def settings(words: Sequence[str]) -> DictConfig:
    """conf/native.yaml with the words applied.

    Raises ValueError, in one line, for a word that is none, an unknown key, a value of the wrong kind, and a setting without a value.
    """
    chosen = _applied(words)
    check(chosen)
    return chosen


def check(chosen: DictConfig, *, but: Collection[str] = ()) -> None:
    """Raises ValueError, in one line, for a value of the wrong kind or out of range (schema.py), and for a setting without a value.

    but: settings that need no value yet.
    """
    try:
        plain: Any = OmegaConf.to_container(chosen, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{getattr(error, 'full_key', None) or 'conf/native.yaml'}: {str(error).splitlines()[0]}") from error
    if (line := wrong(plain)) is not None:
        raise ValueError(line)
    if missing := OmegaConf.missing_keys(chosen) - {*but}:
        raise ValueError(f"these settings have no value: {', '.join(sorted(missing))}; give them as KEY=VALUE")


def swept(words: Sequence[str]) -> Iterator[tuple[dict[str, str], DictConfig]]:
    """Every combination of the words whose values are lists, e.g. tensor_parallel=[1,2], with the settings that it makes.

    They are for `check` to look at; ValueError is raised for the words that are no lists, as by `settings`.
    """
    lists = {w.partition("=")[0]: w.partition("=")[2][1:-1].split(",") for w in words if w.partition("=")[2].startswith("[")}
    single = [w for w in words if w.partition("=")[0] not in lists]
    common = _applied(single)
    check(common, but=lists)
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, (v.strip() for v in values), strict=True))
        yield chosen, _applied([f"{key}={value}" for key, value in chosen.items()], copy.deepcopy(common))


def _applied(words: Sequence[str], chosen: DictConfig | None = None) -> DictConfig:
    """The words on top of these settings, which it changes; of those of conf/native.yaml where there are none."""
    if chosen is None:
        chosen = _read(CONF / "native.yaml")
        OmegaConf.set_struct(chosen, True)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is no setting; give KEY=VALUE (conf/native.yaml has them all)")
        try:
            chosen.merge_with_dotlist([f"{key}={given(value)}" if key in PATHS and value not in ("", "null", "~") else word])
        except yaml.YAMLError as error:
            raise ValueError(f"{key}: {value!r} is no value: {getattr(error, 'problem', None) or error}; give {key}=VALUE") from error
        except OmegaConfBaseException as error:
            raise ValueError(_refused(key, value, _keys(chosen))) from error
    return chosen


def _refused(key: str, value: str, known: Sequence[str]) -> str:
    """Why OmegaConf does not take this word."""
    if key in known:
        return f"{key} must be one value, got {value!r}; give {key}=VALUE (conf/native.yaml says what it takes)"
    if inner := next((name for name in known if name.startswith(f"{key}.")), None):
        return f"{key} is a group of settings, got {value!r}; give one of them, e.g. {inner}=..."
    near = get_close_matches(key, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no setting is called {key!r}{hint} (conf/native.yaml has them all)"


def _read(path: Path) -> DictConfig:
    """A YAML file of names and values. Raises ValueError, in one line, for one that is none."""
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(malformed(error)) from error
    if not isinstance(content, DictConfig) or not content:
        raise ValueError(f"{path.relative_to(CONF.parent)}: it must hold names and values, as KEY: VALUE, and holds {content or 'nothing'}")
    return content


def deployment(cfg: DictConfig) -> Deployment:
    """The engines that the settings describe. Raises ValueError and SimulatorError in one line."""
    if cfg.policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {cfg.policy!r}")
    limits: dict[str, Any] = OmegaConf.to_container(cfg.limits)  # type: ignore[assignment]
    if cfg.arrangement.kind == "llumnix" and limits["in_flight"] is None:
        limits["in_flight"] = 1  # a request can leave only between two steps
    return Deployment(
        native=_native(
            cfg.policy,
            Arrangement(**OmegaConf.to_container(cfg.arrangement)),  # type: ignore[arg-type]
            Speculation(**OmegaConf.to_container(cfg.speculation)),  # type: ignore[arg-type]
        ),
        model=model(cfg.model),
        hardware=choice("hardware", cfg.hardware),
        parallel=parallelism(cfg),
        max_model_len=cfg.max_model_len,
        changes={name: value for name, value in limits.items() if value is not None},
        effects=Effects(**OmegaConf.to_container(cfg.effects)),  # type: ignore[arg-type]
        profile=Profile.read(Path(cfg.profile)) if cfg.profile else None,
    )


def parallelism(cfg: DictConfig) -> Parallelism:
    """How the devices of an engine share the model."""
    tensor, data = cfg.tensor_parallel, cfg.data_parallel_size
    expert = tensor * data if cfg.enable_expert_parallel else 1
    return Parallelism(tensor=tensor, data=data, pipeline=cfg.pipeline_parallel_size, expert=expert)


def trace(cfg: DictConfig) -> Trace:
    """The requests. Raises TraceError and ValueError."""
    if cfg.trace is None:
        made: Trace = _workload(cfg.workload).trace(
            rate=cfg.rate, num_requests=cfg.requests, seed=cfg.seed, max_model_len=cfg.max_model_len
        )
        return made
    path = Path(cfg.trace)
    found = read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    if cfg.requests is not None:
        found = _first(found, cfg.requests)
    return found if cfg.rate is None else at_rate(found, cfg.rate)


def judge(cfg: DictConfig) -> Judge:
    """What finds the capacity of the engines that the settings describe. Raises ValueError, TraceError and SimulatorError."""
    whole_at, most = trace_at(cfg)
    wanted, precision = cfg.attainment, cfg.precision
    return Judge(deployment(cfg), whole_at, slo(cfg), wanted=wanted, precision=precision, lengths=lengths(cfg, most))


def lengths(cfg: DictConfig, most: int) -> tuple[int, int]:
    """Requests of the shortest simulation that counts and of the longest. most: that there are."""
    return (min(NEXT, most), most) if cfg.requests is None else (min(cfg.requests, most),) * 2


def trace_at(cfg: DictConfig) -> tuple[TraceAt, int]:
    """So many requests at a rate: a file's first ones with other gaps, or a workload's. And the most that it can give."""
    if cfg.trace is not None:
        whole = trace(cfg)
        return (lambda rate, requests: at_rate(_first(whole, requests), rate)), len(whole)
    workload = _workload(cfg.workload)

    def drawn(rate: float, requests: int) -> Trace:
        made: Trace = workload.trace(rate=rate, num_requests=requests, seed=cfg.seed, max_model_len=cfg.max_model_len)
        return made

    return drawn, cfg.requests or MOST


def slo(cfg: DictConfig) -> SLO:
    """The limits of a good request, s."""
    return SLO(ttft=cfg.slo.ttft, tpot=cfg.slo.tpot, e2e=cfg.slo.e2e)


def choice(group: str, name: str) -> dict[str, Any]:
    """conf/<group>/<name>.yaml, as plain values. Raises ValueError for a name that is not there."""
    path = _file(group, name)
    try:
        return _plain(path, path.stat().st_mtime_ns)
    except OmegaConfBaseException as error:
        raise ValueError(f"conf/{group}/{name}.yaml: {error}") from error


@lru_cache(maxsize=128)  # hundreds of deployments share a few files
def _plain(path: Path, written: int) -> dict[str, Any]:
    """Its values; nobody changes them. written: when the file was, ns."""
    values: dict[str, Any] = OmegaConf.to_container(_read(path), resolve=True)  # type: ignore[assignment]
    return values


def model(name: str) -> dict[str, Any]:
    """The config.json of a model of conf/model, or that of a path. Raises ValueError."""
    if name.endswith(".json"):
        return _config_json(given(name))
    config = choice("model", name).get("config")
    if not isinstance(config, dict):
        raise ValueError(f"conf/model/{name}.yaml: it has no `config`; put the values of the model's config.json under that name")
    return config


def _config_json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model={path}: {error}; give a name of conf/model, or a Hugging Face config.json") from error
    if not isinstance(found, dict):
        raise ValueError(f"model={path}: it holds no JSON object; give a Hugging Face config.json")
    return found


def choices(group: str) -> list[str]:
    """The names of conf/<group>/*.yaml."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _file(group: str, name: str) -> Path:
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = choices(group)
        near = get_close_matches(name, known, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"{group}={name}: unknown; {hint}known: {', '.join(known)}")
    return path


def _first(trace: Trace, requests: int) -> Trace:
    return Trace(name=trace.name, requests=trace.requests[:requests], block_size=trace.block_size)


@cache
def _workload(name: str) -> Any:
    """A workload of conf/workload, composed by Hydra as a bench has it. Raises ValueError where a setting of it has no value."""
    from hydra import compose, initialize_config_dir  # here: a trace in a file needs no Hydra, which takes long to import
    from hydra.errors import HydraException, InstantiationException
    from hydra.utils import instantiate

    _file("workload", name)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            chosen = compose(overrides=[f"+workload={name}"]).workload
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(malformed(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ValueError(f"workload={name}: {error}") from error
    if not isinstance(chosen, DictConfig) or "_target_" not in chosen:
        raise ValueError(f"workload={name}: conf/workload/{name}.yaml names no class as its _target_; mend it")
    if missing := OmegaConf.missing_keys(chosen):
        raise ValueError(f"workload={name} needs {', '.join(sorted(missing))}, which a bench can give; here give trace=FILE")
    try:
        return instantiate(chosen, _convert_="all")
    except InstantiationException as error:
        raise ValueError(f"workload={name}: {error.__cause__ or error}") from error


def _native(policy: str, arrangement: Arrangement, speculation: Speculation) -> Predictor:
    values = choice("simulator", "native")
    built = ("frontend", "roofline", "routing", "host_path", "host", "shipped")
    wanted = (*built, "frontend_after", "architectures")
    if missing := [name for name in wanted if name not in values]:
        raise ValueError(f"conf/simulator/native.yaml: {', '.join(missing)} is missing; put it back")
    parts = {name: {k: v for k, v in values[name].items() if k != "_target_"} for name in built}
    return Predictor(
        policy=policy,
        arrangement=arrangement,
        frontend=StationSettings(**parts["frontend"]),
        frontend_after=values["frontend_after"],
        roofline=Efficiency(**parts["roofline"]),
        architectures=values["architectures"],
        host_path=HostPath(**parts["host_path"]),
        routing=Routing(**parts["routing"]),
        host=Host(**parts["host"]),
        shipped=Defaults(**parts["shipped"]),
        speculation=speculation,
    )


def _keys(cfg: DictConfig) -> list[str]:
    """All settings by their dotted names."""
    plain: Any = OmegaConf.to_container(cfg)
    return [name for key, value in plain.items() for name in ([f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key])]
