"""The errors of simulators: one failed, or cannot be had here."""

from results import record


class SimulatorError(RuntimeError):
    """A simulator that failed or lost rows; the message says which, where its log is, and what to do."""


class NotAvailable(SimulatorError, record.Unavailable):
    """A simulator or a track that cannot be had here, or takes too long; the message says how to get it. A bench goes on and shows it as
    'not available'.
    """
