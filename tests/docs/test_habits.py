"""What a repository is expected to have: a licence, metadata, hooks and a workflow that run the project's own checks."""

import hashlib
import re
import subprocess
import tomllib
from typing import Any

import yaml  # type: ignore[import-untyped]

from results.project.folder import ROOT

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # of https://www.apache.org/licenses/LICENSE-2.0.txt


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def lint_commands() -> list[str]:
    """What `make lint` runs, by make's own account."""
    shown = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".envs/core/.ready", "lint"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return shown.stdout.splitlines()


def test_the_licence_is_apache_2_to_the_letter_and_the_metadata_say_so() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0" and project["license-files"] == ["LICENSE"]
    assert (ROOT / project["readme"]).is_file()


def test_the_hooks_are_the_tools_of_make_lint_and_need_no_other_repository() -> None:
    repositories = read(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert [hook["entry"] for hook in repositories[0]["hooks"]] == lint_commands()
    assert all(hook["language"] == "system" for hook in repositories[0]["hooks"])


def test_the_workflow_runs_ci_run_on_every_python_that_the_metadata_name() -> None:
    workflow = read(".github/workflows/ci.yml")
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [match[1] for line in project["classifiers"] if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))]
    assert job["strategy"]["matrix"]["python"] == named
    assert f">={named[0]}" == project["requires-python"]


def test_the_changelog_is_in_the_form_that_is_kept() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert kinds and set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
