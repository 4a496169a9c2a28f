"""Fixtures that several folders' tests use."""

import signal
import uuid
from pathlib import Path

import pytest

from tests.benches import Bench


def pytest_configure() -> None:
    """Take SIGINT again where a shell that started this in the background had it ignored: what the tests start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Benches whose results go to the test's own folder."""
    return Bench(folder=tmp_path, tag=uuid.uuid4().hex)
