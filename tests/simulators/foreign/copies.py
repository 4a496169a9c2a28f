"""Simulators that are git repositories: their adapters as configured, or a skip that says what to provide."""

import dataclasses
import os
from itertools import accumulate, pairwise
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from harness.environment import ensure
from results.project.folder import ROOT
from results.record import RequestRecord, Run


def configured(name: str, **changes: Any) -> Any:
    """As conf/simulator/<name>.yaml has it, but for the changes; so the file and the constructor must agree."""
    config = OmegaConf.load(ROOT / "conf" / "simulator" / f"{name}.yaml")
    return hydra.utils.instantiate(OmegaConf.merge(config, changes))


def needs_copy(name: str, variable: str, address: str) -> None:
    """Skip where no copy is given; else make the simulator's environment."""
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to a clone or a bare repository of {address}")
    ensure(name)


def linked(run: Run, gb_s: float) -> Run:
    """The measured run on hardware whose devices are linked at so many GB/s, both directions together."""
    hardware = {**run.config["hardware"], "interconnect_gb_s": gb_s}
    return dataclasses.replace(run, config={**run.config, "hardware": hardware})


def most_in_flight(run: Run) -> int:
    """Requests between their first and their last token, at most at once."""
    events = [(time, change) for r in run.records for time, change in ((r.first_token, 1), (r.finished, -1)) if time is not None]
    return max(accumulate(change for _, change in sorted(events)))


def check_as_asked(run: Run) -> None:
    """Every request of its trace came back with all its tokens, whose times are in order."""
    for record, asked in zip(run.records, run.trace, strict=True):
        assert (record.request_id, record.input_tokens, record.output_tokens) == (asked.request_id, asked.input_tokens, asked.output_tokens)
        assert record.token_times is not None and len(record.token_times) == asked.output_tokens
        assert record.sent is not None and record.scheduled is not None and record.first_token is not None
        assert asked.arrival <= record.sent <= record.scheduled < record.first_token <= (record.finished or 0)
        assert list(record.token_times) == sorted(record.token_times)


def gaps(record: RequestRecord) -> list[float]:
    """Seconds from sending to the first token, and from each token to the next."""
    assert record.sent is not None and record.token_times is not None
    times = (record.sent, *record.token_times)
    return [b - a for a, b in pairwise(times)]
