"""What AISimulate says when it has no operation times for a model, in the words of its older and newer wheels."""

from pathlib import Path

from simulators.errors import NotAvailable

UNKNOWN_MODEL = (
    "unsupported model",
    "is not supported. Supported architectures",
    "is not supported by the op-level model",
    "does not support",
)
UNKNOWN_SIZES = ("PerfDataNotAvailable", "missing performance data", "no timing data for", "Unsupported")


class LacksTimes(NotAvailable):
    """Its operation times of one version lack the model's; those of another may have them."""


class LacksModel(LacksTimes):
    """A wheel does not know the model, whatever the version; another wheel may."""


def refused(log: Path) -> type[LacksTimes] | None:
    """What its log says that it lacks; None: nothing of the kind."""
    said = log.read_text(errors="replace") if log.is_file() else ""
    if any(fault in said for fault in UNKNOWN_MODEL):
        return LacksModel
    return LacksTimes if any(fault in said for fault in UNKNOWN_SIZES) else None
