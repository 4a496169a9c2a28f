"""The page of an answer, beside the file that `./plumbline plan` wrote."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.page import document
from analysis.page.summary import StudySummary


def write_beside(answer: Path, out: Path | str | None, page: Callable[[Mapping[str, Any]], str]) -> StudySummary:
    """Write the page of a JSON file to `out`; None: the same name, .html."""
    found = json.loads(answer.read_text(encoding="utf-8"))
    path = answer.with_suffix(".html") if out is None else Path(out)
    document.write(path, page(found))
    return StudySummary(verdict=found["headline"], path=path)
