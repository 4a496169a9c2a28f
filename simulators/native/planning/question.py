"""What a planner asked, in words: an answer is worth what is known of its question."""

from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig

from results.record import SLO
from workloads.trace import Trace


def asked(cfg: DictConfig, *slos: SLO, varied: Collection[str] = ()) -> str:
    """The model, its device, the requests, and the limits of each class of them. varied: settings with several values: left out."""
    parts = [" on ".join(cfg[name] for name in ("model", "hardware") if name not in varied)]
    if not {"trace", "workload"} & {*varied}:
        parts.append(f"requests of the trace {Path(cfg.trace).name}" if cfg.trace else f"requests of {cfg.workload}")
    if not any(name.startswith("slo.") for name in varied):
        parts.append("; second class: ".join(str(slo) for slo in slos))
    return f"Asked: {', '.join(filter(None, parts))}."


def sought(cfg: DictConfig, varied: Collection[str] = ()) -> str:
    """What a capacity is. varied: as of `asked`."""
    share = "a share (attainment)" if "attainment" in varied else f"{cfg.attainment:.0%}"
    return f"Sought: the highest rate at which {share} of the requests meet the limits."


def offered(trace: Trace, end: float) -> str:
    """The rate at which requests come, beside the time that all printed rates are of. end: when the last token came, s."""
    whole = f"the rates below are of all {end:.4g} s, until the last token"
    if trace.rate is None or trace.has_sessions:
        return whole
    return f"{trace.rate:.4g} requests/s offered for {trace.duration:.4g} s; {whole}"
