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


def refused(log: Path) -> type[NotAvailable] | None:
    """What its log says: no version's times will do, those of another may, or (None) nothing of the kind."""
    said = log.read_text(errors="replace") if log.is_file() else ""
    if any(fault in said for fault in UNKNOWN_MODEL):
        return NotAvailable
    return LacksTimes if any(fault in said for fault in UNKNOWN_SIZES) else None
