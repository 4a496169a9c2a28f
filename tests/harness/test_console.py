"""The final table at any width: every simulator's column is shown whole, beside what was measured."""

import io

import pandas as pd
import pytest
from rich.console import Console

from harness import console

SYSTEMS = ["vidur:calibrated", "native:shipped", "native:matched", "splitwise_sim:calibrated"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_value_is_shown_whole(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    values = {name: [f"{11_000 + i}", f"{12_000 + i}"] for i, name in enumerate(SYSTEMS)}
    errors = {f"{name} error %": [f"+{110 + i}", "not valid"] for i, name in enumerate(SYSTEMS)}
    columns = [column for name in SYSTEMS for column in (name, f"{name} error %")]
    frame = pd.DataFrame({"metric": ["TTFT p50 (ms)", "Output throughput (tokens/s)"], "measured": ["1", "2"], **values, **errors})
    out = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out, width=width))
    console.print_table(frame[["metric", "measured", *columns]], "title")
    printed = out.getvalue()
    for cell in [*frame["metric"], *(v for vs in values.values() for v in vs), *(e[0] for e in errors.values())]:
        assert cell in printed
    assert max(map(len, printed.splitlines())) <= width
