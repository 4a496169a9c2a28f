"""Fixtures that several folders' tests use."""

import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.benches import Bench
from tests.processes import ByFile, turn


def pytest_configure() -> None:
    """Take SIGINT again where a shell that started this in the background had it ignored: what the tests start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""
    items.sort(key=lambda item: turn(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Divide the tests among several processes as processes.py says."""
    return ByFile(config, log)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Benches whose results go to the test's own folder."""
    return Bench(folder=tmp_path, tag=uuid.uuid4().hex)
