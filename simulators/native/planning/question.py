"""What a planner asked, in words: an answer is worth what is known of its question."""

from pathlib import Path

from omegaconf import DictConfig

from results.record import SLO
from workloads.trace import Trace


def asked(cfg: DictConfig, *slos: SLO) -> str:
    """The model, the requests, and the limits of each class of them."""
    requests = f"the trace {Path(cfg.trace).name}" if cfg.trace else cfg.workload
    limits = "; second class: ".join(str(slo) for slo in slos)
    return f"Asked: {cfg.model}, requests of {requests}, {limits}."


def offered(trace: Trace, end: float) -> str:
    """The rate at which requests come, beside the time that all printed rates are of. end: when the last token came, s."""
    whole = f"the rates below are of all {end:.4g} s, until the last token"
    if trace.rate is None or trace.has_sessions:
        return whole
    return f"{trace.rate:.4g} requests/s offered for {trace.duration:.4g} s; {whole}"
