"""Fixtures that several folders' tests use."""

import uuid
from pathlib import Path

import pytest

from tests.benches import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Benches whose results go to the test's own folder."""
    return Bench(folder=tmp_path, tag=uuid.uuid4().hex)
