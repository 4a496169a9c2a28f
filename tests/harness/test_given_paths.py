"""Paths of a Hydra command line mean the caller's folder; ids of runs stay as they are, however many."""

from pathlib import Path

import pytest

from harness.command_line.given_paths import with_given_paths
from results.project.caller import VARIABLE


def test_a_sweep_over_more_runs_than_a_path_has_letters_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    sweep = "engine.run=" + ",".join(f"a-run-of-some-recording-{n:04d}" for n in range(400))
    assert with_given_paths([sweep, "engine.run=run"]) == [sweep, f"engine.run={tmp_path / 'run'}"]
