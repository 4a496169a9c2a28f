"""Environments of engines and simulators, for tests that run real ones."""

from pathlib import Path

import pytest

from harness.engine import EngineError
from harness.environment import ensure


def python_of(name: str) -> Path:
    """The interpreter of `.envs/<name>`, which is made where it is missing. The test is skipped where it cannot be installed."""
    try:
        return ensure(name)
    except EngineError as error:
        pytest.skip(f"environment {name} cannot be installed here: {error}")
