"""Fixtures that several folders' tests use."""

import signal
import uuid
from pathlib import Path

import pytest

from results.project import ROOT
from tests.benches import Bench

# Files whose tests take longest begin first, so that no process is left alone with one of them at the end.
LONGEST = (
    "test_campaign.py",
    "test_end_to_end.py",
    "harness/engines/test_sglang.py",
    "harness/probing/test_measure_vllm.py",
    "test_study.py",
    "harness/engines/test_vllm.py",
    "harness/probing/test_profiler.py",
    "simulators/native/scheduling",
    "test_bench.py",
)


def pytest_configure() -> None:
    """Take SIGINT again where a shell that started this in the background had it ignored: what the tests start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes: the tests of a file go together, as they share servers and databases, but in files marked `spread`."""
    for item in items:
        if item.get_closest_marker("spread") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    place = item.path.relative_to(ROOT / "tests").as_posix()
    return next((turn for turn, name in enumerate(LONGEST) if place.startswith(name)), len(LONGEST))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Benches whose results go to the test's own folder."""
    return Bench(folder=tmp_path, tag=uuid.uuid4().hex)
