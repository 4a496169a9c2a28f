"""The command line's words: KEY=VALUE over conf/native.yaml, and what they name."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from results.profile import Profile
from results.project import CONF
from results.record import SLO
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.effects.effects import Effects
from simulators.native.latency.roofline import Efficiency
from simulators.native.planning.deployment import Deployment, at_rate
from simulators.native.predictor import Predictor
from simulators.native.resolve import Defaults
from simulators.native.scheduling.policies import POLICIES
from workloads.files import read_csv, read_parquet
from workloads.trace import Trace

FEWEST = 200  # requests of a trace that a capacity is judged by


def settings(words: Sequence[str]) -> DictConfig:
    """conf/native.yaml with the words applied. Raises ValueError for a word that is none, an unknown key or one that has no value."""
    chosen = OmegaConf.load(CONF / "native.yaml")
    assert isinstance(chosen, DictConfig)
    OmegaConf.set_struct(chosen, True)
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is no setting; give KEY=VALUE (conf/native.yaml has them all)")
        try:
            chosen.merge_with_dotlist([word])
        except OmegaConfBaseException as error:
            near = get_close_matches(key, _keys(chosen), n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"no setting is called {key!r}{hint} (conf/native.yaml has them all)") from error
    missing = OmegaConf.missing_keys(chosen)
    if missing:
        raise ValueError(f"these settings have no value: {', '.join(sorted(missing))}; give them as KEY=VALUE")
    return chosen


def swept(words: Sequence[str]) -> Iterator[tuple[dict[str, str], DictConfig]]:
    """Every combination of the words whose values are lists, e.g. tensor_parallel=[1,2], with the settings that it makes."""
    lists = {w.partition("=")[0]: w.partition("=")[2][1:-1].split(",") for w in words if w.partition("=")[2].startswith("[")}
    single = [w for w in words if w.partition("=")[0] not in lists]
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, (v.strip() for v in values), strict=True))
        yield chosen, settings([*single, *(f"{key}={value}" for key, value in chosen.items())])


def deployment(cfg: DictConfig) -> Deployment:
    """The engines that the settings describe. Raises ValueError and SimulatorError in one line."""
    if cfg.policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {cfg.policy!r}")
    limits: dict[str, Any] = OmegaConf.to_container(cfg.limits)  # type: ignore[assignment]
    if cfg.arrangement.kind == "llumnix" and limits["in_flight"] is None:
        limits["in_flight"] = 1  # a request can leave only between two steps
    return Deployment(
        native=_native(cfg.policy, Arrangement(**OmegaConf.to_container(cfg.arrangement))),  # type: ignore[arg-type]
        model=choice("model", cfg.model)["config"],
        hardware=choice("hardware", cfg.hardware),
        tensor_parallel=cfg.tensor_parallel,
        max_model_len=cfg.max_model_len,
        changes={name: value for name, value in limits.items() if value is not None},
        effects=Effects(**OmegaConf.to_container(cfg.effects)),  # type: ignore[arg-type]
        profile=Profile.read(Path(cfg.profile)) if cfg.profile else None,
    )


def trace(cfg: DictConfig) -> Trace:
    """The requests. Raises TraceError and ValueError."""
    if cfg.trace is None:
        made: Trace = _workload(cfg).trace(rate=cfg.rate, num_requests=cfg.requests, seed=cfg.seed, max_model_len=cfg.max_model_len)
        return made
    path = Path(cfg.trace)
    found = read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    if cfg.requests is not None:
        found = Trace(name=found.name, requests=found.requests[: cfg.requests], block_size=found.block_size)
    return found if cfg.rate is None else at_rate(found, cfg.rate)


def trace_at(cfg: DictConfig) -> Callable[[float], Trace]:
    """The requests at any rate: a file's with other gaps, or as many of a workload's as arrive in cfg.duration (cfg.requests at least)."""
    if cfg.trace is not None:
        whole = trace(cfg)
        return lambda rate: at_rate(whole, rate)
    workload = _workload(cfg)

    def drawn(rate: float) -> Trace:
        count = max(cfg.requests or 1, round(rate * cfg.duration), FEWEST)
        made: Trace = workload.trace(rate=rate, num_requests=count, seed=cfg.seed, max_model_len=cfg.max_model_len)
        return made

    return drawn


def slo(cfg: DictConfig) -> SLO:
    """The limits of a good request, s."""
    return SLO(ttft=cfg.slo.ttft, tpot=cfg.slo.tpot, e2e=cfg.slo.e2e)


def choice(group: str, name: str) -> dict[str, Any]:
    """conf/<group>/<name>.yaml, as plain values. Raises ValueError for a name that is not there."""
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(_file(group, name)), resolve=True)  # type: ignore[assignment]
    return values


def _file(group: str, name: str) -> Path:
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (CONF / group).glob("*.yaml"))
        near = get_close_matches(name, known, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"{group}={name}: unknown; {hint}known: {', '.join(known)}")
    return path


def _workload(cfg: DictConfig) -> Any:
    """A workload of conf/workload, composed by Hydra as a bench has it. Raises ValueError where a setting of it has no value."""
    from hydra import compose, initialize_config_dir  # here: a trace in a file needs no Hydra, which takes long to import
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    _file("workload", cfg.workload)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = compose(overrides=[f"+workload={cfg.workload}"]).workload
    if missing := OmegaConf.missing_keys(chosen):
        raise ValueError(f"workload={cfg.workload} needs {', '.join(sorted(missing))}, which a bench can give; here give trace=FILE")
    try:
        return instantiate(chosen, _convert_="all")
    except InstantiationException as error:
        raise ValueError(f"workload={cfg.workload}: {error.__cause__ or error}") from error


def _native(policy: str, arrangement: Arrangement) -> Predictor:
    values = choice("simulator", "native")
    parts = {name: {k: v for k, v in values[name].items() if k != "_target_"} for name in ("roofline", "shipped")}
    return Predictor(
        policy=policy,
        arrangement=arrangement,
        frontend_after=values["frontend_after"],
        roofline=Efficiency(**parts["roofline"]),
        shipped=Defaults(**parts["shipped"]),
    )


def _keys(cfg: DictConfig) -> list[str]:
    """All settings by their dotted names."""
    plain: Any = OmegaConf.to_container(cfg)
    return [name for key, value in plain.items() for name in ([f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key])]
