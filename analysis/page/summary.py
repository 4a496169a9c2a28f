"""What a study's page says in one line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What a study's report says."""

    verdict: str  # the answer
    path: Path  # of the page
