"""`./plumbline compare` on real run folders: verdicts, exit codes, formats, and what cannot be compared."""

import dataclasses
import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from analysis.comparison.__main__ import main
from harness import provenance
from results import database
from results.storage.store import read_run, run_folders, write_run
from tests.analysis.comparison.samples import stored
from tests.analysis.conftest import CHROMIUM
from tests.runs import make_run, make_simulated

PATIENCE = 180_000  # ms; a busy machine is no error
NOWHERE = ["--database", "nowhere.duckdb"]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three runs each: base; same, measured again; slow, 1.5 times base; fast, 0.6 times."""
    folder = tmp_path_factory.mktemp("builds")
    for number, (name, scale) in enumerate((("base", 1.0), ("slow", 1.5), ("fast", 0.6))):
        stored(folder / name, scale=scale, version=f"0.{number}")
    return folder


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """(exit code, what is printed)."""
    code: Any = 0
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        code = ended.code
    return (code if isinstance(code, int) else 1), (capsys.readouterr().out if isinstance(code, int) else str(code))


@pytest.mark.parametrize(("other", "word", "code"), [("slow", "worse", 4), ("fast", "better", 0), ("base", "", 0)])
def test_only_worse_fails(builds: Path, capsys: pytest.CaptureFixture[str], other: str, word: str, code: int) -> None:
    failed, out = asked(capsys, builds / "base", builds / other, "--format", "json", *NOWHERE, "--fail-on", "worse")
    assert failed == code
    found = json.loads(out)
    [cell] = found["cells"]
    told = {
        figure["verdict"] for figure in cell["figures"] if figure["metric"] in ("ttft", "tpot", "e2e", "itl") and figure["stat"] == "p50"
    }
    assert told == ({word} if word else told - {"better", "worse"}) and cell["paired"]


def test_figures_are_those_of_the_database_and_their_differences(builds: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out = asked(capsys, builds / "base", builds / "slow", "--format", "json", *NOWHERE)
    assert code == 0, "without --fail-on nothing fails"
    [cell] = json.loads(out)["cells"]
    assert [len(cell[runs]) for runs in ("a_runs", "b_runs")] == [3, 3] and cell["settings"] == {"version": ["0.0", "0.1"]}
    for root, side in (("base", "a"), ("slow", "b")):
        database.build([builds / root], tmp_path / f"{root}.duckdb")
        with database.connect(tmp_path / f"{root}.duckdb") as connection:
            rows = connection.execute("SELECT metric, stat, avg(value) FROM run_metrics GROUP BY ALL").fetchall()
        known = {(metric, stat): value for metric, stat, value in rows}
        assert all(figure[side] == pytest.approx(known[figure["metric"], figure["stat"]]) for figure in cell["figures"])
    assert len(cell["figures"]) == 18
    for figure in cell["figures"]:
        assert figure["difference"] == pytest.approx(figure["b"] / figure["a"] - 1) and figure["noise_measured"]
        assert figure["low"] is None or figure["low"] <= figure["difference"] <= figure["high"]


def test_runs_and_studies_are_named_as_the_database_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for study, scale in (("before", 1.0), ("after", 1.4)):
        for run in stored(tmp_path / study, scale=scale, repeats=2):
            label = {"study": {"name": study, "cell": "c0"}}
            write_run(tmp_path / "runs", dataclasses.replace(run, config={**run.config, **label}))
    database.build([tmp_path / "runs"], tmp_path / "d.duckdb")
    code, out = asked(capsys, "before", "after", "--database", tmp_path / "d.duckdb", "--fail-on", "worse")
    assert code == 4 and "B (after) against A (before)" in out
    code, out = asked(capsys, "before-0", "after-1", "--database", tmp_path / "d.duckdb", "--format", "json")
    [cell] = json.loads(out)["cells"]
    assert (cell["a_runs"], cell["b_runs"]) == (["before-0"], ["after-1"])
    assert all(figure["noise_measured"] for figure in cell["figures"]), "the other repeats of either cell show the noise"


def test_a_run_s_folder_has_its_noise_from_its_repeats_beside_it(builds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = asked(capsys, builds / "base" / "base-0", builds / "slow" / "slow-0", "--format", "json", *NOWHERE)
    [cell] = json.loads(out)["cells"]
    assert cell["a_runs"] == ["base-0"] and all(figure["noise_measured"] for figure in cell["figures"])


def test_one_run_of_each_is_judged_by_an_assumed_floor_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "a", repeats=1)
    stored(tmp_path / "b", repeats=1, scale=1.03)
    stored(tmp_path / "c", repeats=1, scale=1.6)
    code, out = asked(capsys, tmp_path / "a", tmp_path / "b", "--fail-on", "worse", *NOWHERE)
    assert code == 0 and "the noise floor is assumed" in out and "5.0 % assumed" in out
    assert asked(capsys, tmp_path / "a", tmp_path / "c", "--fail-on", "worse", *NOWHERE)[0] == 4
    assert asked(capsys, tmp_path / "a", tmp_path / "c", "--fail-on", "worse", "--noise", "0.5", "--metrics", "ttft,tpot", *NOWHERE)[0] == 0


def test_a_run_against_itself_has_no_difference(builds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = asked(capsys, builds / "base" / "base-0", builds / "base" / "base-0", "--format", "json", *NOWHERE)
    [cell] = json.loads(out)["cells"]
    assert {figure["difference"] for figure in cell["figures"]} == {0.0} and "both sides are the same runs" in cell["notes"]
    assert {figure["verdict"] for figure in cell["figures"]} <= {"same", "cannot tell"}


def test_cells_are_matched_by_what_was_asked_and_what_has_no_partner_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, engines in (("a", 32), ("b", 64)):
        for workload in ("chat", "code", f"only_{side}"):
            run = make_run(f"{side}-{workload}", num_requests=60, rho=None, telemetry=False)
            config = {**run.config, "workload": {"name": workload}, "engine": {"name": "vllm", "max_num_seqs": engines}}
            write_run(tmp_path / side, dataclasses.replace(run, workload=workload, config=config))
    _, out = asked(capsys, tmp_path / "a", tmp_path / "b", "--format", "json", *NOWHERE)
    found = json.loads(out)
    assert sorted((cell["a_runs"][0], cell["b_runs"][0]) for cell in found["cells"]) == [("a-chat", "b-chat"), ("a-code", "b-code")]
    assert all(cell["settings"] == {"engine.max_num_seqs": [32, 64]} for cell in found["cells"])
    assert [line.split(": ")[1] for line in found["alone"]] == ["a-only_a (only_a)", "b-only_b (only_b)"]


def test_other_requests_another_rate_and_failures_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", make_run("a", num_requests=100, rho=None, telemetry=False))
    write_run(tmp_path / "b", make_run("b", num_requests=100, rho=None, rate=8.0, seed=1, failures=[40], telemetry=False))
    _, out = asked(capsys, tmp_path / "a", tmp_path / "b", *NOWHERE)
    assert all(words in out for words in ("not the same requests", "not the same rate: ", "failed requests: 0.00% | "))


def test_what_tokens_cost_on_either_side_is_said_where_prices_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, price in (("a", 2.0), ("b", 3.0)):
        run = make_run(side, num_requests=40, rho=None, telemetry=False)
        hardware = {**run.config["hardware"], "price_per_hour": price}
        write_run(tmp_path / side, dataclasses.replace(run, config={**run.config, "hardware": hardware}))
    _, out = asked(capsys, tmp_path / "a", tmp_path / "b", "--format", "json", "--metrics", "tpot", *NOWHERE)
    [note] = [note for note in json.loads(out)["cells"][0]["notes"] if note.startswith("a million output tokens cost ")]
    one, other = (float(word) for word in note.removeprefix("a million output tokens cost ").removesuffix(" USD").split(" | "))
    assert other == pytest.approx(1.5 * one, rel=0.01)


def test_invalid_repeats_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "a")
    [*_, last] = stored(tmp_path / "b")
    write_run(tmp_path / "b", dataclasses.replace(last, run_id="b-9", valid=False, invalid_reason="late"))
    _, out = asked(capsys, tmp_path / "a", tmp_path / "b", "--format", "json", *NOWHERE)
    found = json.loads(out)
    assert found["left_out"] == ["b-9 is INVALID (late): left out"] and len(found["cells"][0]["b_runs"]) == 3


def test_markdown_is_a_table_per_cell_and_text_fits_the_width(builds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = asked(capsys, builds / "base", builds / "slow", "--format", "markdown", *NOWHERE)
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 18 and len({line.count("|") for line in lines}) == 1 and "| WORSE |" in out
    _, out = asked(capsys, builds / "base", builds / "slow", *NOWHERE)
    assert max(len(line) for line in out.splitlines() if line.startswith(("│", "┃"))) <= 132


def bad(folder: Path) -> dict[str, tuple[list[str], str]]:
    """name -> (words, what the line says)."""
    base = str(folder / "base")
    return {
        "no such run": ([base, str(folder / "bose")], "neither a folder, nor"),
        "near name": (["base-O", base, "--database", str(folder / "d.duckdb")], "did you mean base-0"),
        "no runs": ([base, str(folder / "empty")], "no run folder is in it"),
        "invalid": ([base, str(folder / "broken" / "broken-0")], "is INVALID (late)"),
        "only invalid": ([base, str(folder / "broken")], "no valid measured run"),
        "two kinds": ([base, str(folder / "base" / "base-0--vidur-calibrated")], "./plumbline table scores simulators"),
        "other workloads": ([base, str(folder / "others")], "nothing to compare"),
        "metric": ([base, base, "--metrics", "ttft,speed"], "there is no 'speed'"),
        "margin": ([base, base, "--margin", "5"], "--margin is a fraction"),
        "noise": ([base, base, "--noise", "-1"], "--noise is a fraction"),
        "format": ([base, base, "--format", "html"], "invalid choice"),
        "no database": (["a", "b", *NOWHERE], "no such database"),
    }


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    first = stored(folder / "base", repeats=1)[0]
    database.build([folder / "base"], folder / "d.duckdb")
    write_run(folder / "base", make_simulated(first))
    stored(folder / "broken", repeats=1, valid=False, invalid_reason="late")
    (folder / "empty").mkdir()
    for name in ("x", "y"):
        run = make_run(name, num_requests=20, telemetry=False)
        write_run(folder / "others", dataclasses.replace(run, workload=name, config={**run.config, "workload": {"name": name}}))
    return folder


@pytest.mark.parametrize("name", bad(Path()))
def test_what_cannot_be_compared_is_told_in_a_line(wrong: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = bad(wrong)[name]
    if "--database" not in words:
        words = [*words, "--database", str(wrong / "d.duckdb")]
    code, line = asked(capsys, *words)
    assert code == 1 and said in line and "\n" not in line.strip(), line


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An engine's checkout with two commits, before and after, and their ids."""
    folder = tmp_path_factory.mktemp("checkout")
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, "init", "-q", "-b", "main"], check=True)
    commits = []
    for state in ("before", "after"):
        (folder / "toyengine").mkdir(exist_ok=True)
        (folder / "toyengine" / "__init__.py").write_text(f"STATE = {state!r}\n")
        subprocess.run(["git", "-C", folder, "add", "."], check=True)
        subprocess.run(["git", "-C", folder, *identity, "commit", "-qm", state], check=True)
        subprocess.run(["git", "-C", folder, "tag", state], check=True)
        found = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        commits.append(found.stdout.strip())
    return folder, commits


@pytest.fixture(scope="module")
def states(builds: Path, engine: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with runs of both states: of the first by their provenance, of the second by their version; one of an edited checkout."""
    _, (before, after) = engine
    folder = tmp_path_factory.mktemp("states")
    for name, of in (("base", {"engine_commit": before}), ("slow", {})):
        for place in run_folders(builds / name):
            run = read_run(place)
            version = run.version if of else f"1.2.dev3+g{after[:9]}"
            write_run(folder / "runs", dataclasses.replace(run, version=version, provenance={**run.provenance, **of}))
    edited = make_run("edited", rho=None, telemetry=False)
    about = {**edited.provenance, "engine_commit": before, "engine_dirty": True}
    write_run(folder / "runs", dataclasses.replace(edited, provenance=about))
    database.build([folder / "runs"], folder / "states.duckdb")
    return folder / "states.duckdb"


def test_git_states_of_an_engine_are_the_runs_that_say_so(
    engine: tuple[Path, list[str]], states: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout, (before, after) = engine
    where = ("--database", states, "--format", "json")
    for words in (("git:before", "git:after", "--checkout", checkout), (f"git:{before[:8]}", f"git:{after[:8]}")):
        code, out = asked(capsys, *words, *where, "--fail-on", "worse")
        assert code == 4, out
        found = json.loads(out)
        [cell] = found["cells"]
        assert [len(cell[side]) for side in ("a_runs", "b_runs")] == [3, 3]
        [left_out] = found["left_out"]
        assert left_out.startswith(f"edited is of an edited checkout of {before[:8]}")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("git:main~5", "git knows no 'main~5' there"),
        ("git:nonesuch", "git knows no 'nonesuch' there"),
        ("git:--all", "git knows no '--all' there"),
    ],
)
def test_a_ref_that_git_does_not_know_is_told(
    engine: tuple[Path, list[str]], states: Path, capsys: pytest.CaptureFixture[str], ref: str, said: str
) -> None:
    code, out = asked(capsys, ref, "git:after", "--checkout", engine[0], "--database", states)
    assert code == 1 and said in out


def test_a_branch_without_a_checkout_and_a_commit_without_runs_are_told(states: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = asked(capsys, "git:main", "git:main", "--database", states)
    assert code == 1 and "give --checkout FOLDER, where git knows 'main'" in out
    code, out = asked(capsys, "git:0000000", "git:main", "--database", states)
    assert code == 1 and "no run is of 0000000; there are runs of " in out


def test_a_run_knows_the_commit_that_its_engine_was_installed_from(engine: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, (_, after) = engine
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert provenance.engine_commit("toyengine", str(python)) == {"engine_commit": after, "engine_dirty": False}
    (folder / "toyengine" / "__init__.py").write_text("STATE = 'edited'\n")
    assert provenance.engine_commit("toyengine", str(python))["engine_dirty"] is True
    subprocess.run(["git", "-C", folder, "checkout", "-q", "."], check=True)
    assert provenance.engine_commit("numpy", str(python)) == {}, "a package in an environment within a repository is no checkout"
    assert provenance.engine_commit("toyengine", "/nowhere/python") == {}


def test_the_page_says_what_the_text_says_and_escapes_it(builds: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "pages" / "compare.html"
    code, text = asked(capsys, builds / "base", builds / "slow", *NOWHERE, "--page", out)
    page = out.read_text()
    assert code == 0 and "WORSE" in page and "<script src" not in page
    for word in ("TTFT p50", "TPOT mean", "what would tell", "0.0 | 0.1"):
        assert word in page
    assert html.escape(text.splitlines()[0]).partition(":")[0] in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_drawn_inside_its_width(browser: Browser, builds: Path, tmp_path: Path, width: int, scheme: str) -> None:
    main([str(builds / "base"), str(builds / "slow"), *NOWHERE, "--page", str(tmp_path / "compare.html")])
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "compare.html").as_uri(), timeout=PATIENCE)
    page.wait_for_selector("html[data-drawn]", timeout=PATIENCE)
    assert page.locator(".plot .main-svg").count() >= 1 and page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width and complaints == []
    page.close()
