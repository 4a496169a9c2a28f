"""The page and the command line, from real run folders; the page as a browser sees it is in test_browser.py."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from analysis.__main__ import main
from analysis.data import AnalysisError
from analysis.report import Report, Summary
from analysis.stats import Bootstrap
from results.project.folder import CONF
from results.record import Run
from tests.analysis.conftest import MakeDatabase
from tests.runs import make_run, make_simulated, make_trace

FIGURES = {"errors", "cdf-ttft", "cdf-tpot", "cdf-e2e", "parity-ttft", "parity-tpot", "parity-e2e", "ttft-over-time", "server"}
FEW = Bootstrap(resamples=200)


class Page(HTMLParser):
    """What a test wants to know of a page: every address it refers to, its ids, and the text of each element with one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.blocks: dict[str, str] = {}
        self.h1 = ""
        self.notice = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.loads += [found[name] for name in ("src", "srcset", "poster", "data") if name in found]
        self.loads += [found["href"]] if tag == "link" else []
        self.links += [found["href"]] if tag == "a" else []
        self._inside = (
            tag if tag == "h1" else "notice" if found.get("class") == "notice" else found.get("id", "") if tag == "script" else ""
        )

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "h1":
            self.h1 += data
        elif self._inside == "notice":
            self.notice += data
        elif self._inside:
            self.blocks[self._inside] = self.blocks.get(self._inside, "") + data


@pytest.fixture
def write(make_database: MakeDatabase, tmp_path: Path) -> Iterator[Callable[..., tuple[Summary, Page]]]:
    """Store runs, report on one, and read the page back."""

    def report(*runs: Run, run_id: str | None = None) -> tuple[Summary, Page]:
        database = make_database(*runs)
        summary = Report(database=database, out=tmp_path / "report.html", bootstrap=FEW).write(run_id)
        return summary, Page(summary.path.read_text())

    yield report


Write = Callable[..., tuple[Summary, Page]]


def test_the_page_has_every_figure_and_loads_nothing_from_anywhere(write: Write) -> None:
    measured = make_run(failures=(2,))
    summary, page = write(measured, make_simulated(measured), make_simulated(measured, system="native", track="matched"))
    assert {name.removeprefix("figure-") for name in page.blocks} == FIGURES
    assert all(json.loads(block)["data"] for block in page.blocks.values())
    assert all(address.startswith("data:") for address in page.loads)
    text = summary.path.read_text()
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style and "url(" not in style
    assert len(text) < 15_000_000


def test_the_page_opens_with_the_verdict_and_links_to_run_folders_that_are_there(write: Write) -> None:
    measured = make_run()
    simulated = make_simulated(measured)
    summary, page = write(measured, simulated)
    assert page.h1.replace("\u00a0", " ") == summary.verdict
    assert "Vidur (calibrated) predicts median TTFT" in summary.verdict
    assert page.links == [f"runs/{measured.run_id}/", f"runs/{simulated.run_id}/"]
    assert all((summary.path.parent / link / "run.json").is_file() for link in page.links)


def test_the_terminals_table_has_the_measured_values_and_a_row_of_errors_per_simulator_nearest_first(write: Write) -> None:
    measured = make_run(num_requests=60)
    near = make_simulated(measured, scale=1.1, noise=0.0)
    far = [make_simulated(measured, track="shipped", scale=3.0, noise=0.0), make_simulated(measured, system="native", scale=0.5, noise=0.0)]
    summary, _ = write(measured, *far, near)
    assert summary.table.iloc[:, 0].to_list() == ["vllm measured", "vidur:calibrated", "native:calibrated", "vidur:shipped"]
    table = summary.table.set_axis([" ".join(str(name).split()) for name in summary.table], axis="columns")
    assert list(table)[1:4] == ["TTFT p50 ms", "TPOT p50 ms", "Output tokens/s"]  # what it is sorted by comes first
    for latency in ("TTFT p50 ms", "TPOT p50 ms", "E2E p50 ms"):
        values = table[latency].to_list()
        assert float(values[0]) > 10
        assert values[1:] == ["+10", "−50", "+200"]
    assert "nearest first" in summary.note and "TTFT p50, TPOT p50 and output throughput" in summary.note


def test_an_invalid_run_says_so_first_and_shows_no_score(write: Write) -> None:
    measured = dataclasses.replace(make_run(), valid=False, invalid_reason="dispatch lag p99 31 ms above 10 ms")
    summary, page = write(measured, make_simulated(measured, scale=1.37))
    assert page.h1.startswith("INVALID: dispatch lag p99 31 ms above 10 ms.")
    assert "figure-errors" not in page.blocks
    assert set(summary.table.iloc[1, 1:]) == {"–"} and "INVALID" in summary.note
    text = summary.path.read_text()
    table = text[text.index("<main>") : text.index("<section>")]
    assert "not valid" in table and "+37" not in table and "+3" not in table


def test_a_measured_run_alone_is_a_report_too(write: Write) -> None:
    summary, page = write(make_run(telemetry=False))
    assert summary.verdict.endswith("no simulator was run on these requests.")
    assert (len(summary.table), summary.note, summary.notice) == (1, "", None)
    assert {name.removeprefix("figure-") for name in page.blocks} == {"cdf-ttft", "cdf-tpot", "cdf-e2e", "ttft-over-time"}


@pytest.mark.parametrize(
    "measured",
    [
        make_run(num_requests=6, failures=range(6)),
        make_run(num_requests=1, rate=1.0),
        make_run(num_requests=5, token_times=False, telemetry=False),
        dataclasses.replace(make_run(num_requests=8), window=None, rho=None, rate=None, config={}, provenance={}, version=None),
        make_run(num_requests=8, system="something_new"),
    ],
    ids=["all failed", "one request", "no token times", "little known", "unknown system"],
)
def test_odd_runs_are_reported_without_a_crash(write: Write, measured: Run) -> None:
    summary, page = write(measured, make_simulated(measured))
    assert summary.verdict.startswith("On ")
    assert {"figure-errors", "figure-ttft-over-time"} <= page.blocks.keys()


def test_a_simulator_that_refused_requests_is_neither_near_nor_compared(write: Write) -> None:
    measured = make_run(num_requests=40)
    exact, whole = make_simulated(measured, system="native", scale=1.0, noise=0.0), make_simulated(measured, scale=1.3, noise=0.0)
    refused = [dataclasses.replace(r, first_token=None, finished=None, token_times=None, error="refused") for r in exact.records[:10]]
    summary, _ = write(measured, whole, dataclasses.replace(exact, records=(*refused, *exact.records[10:])))
    assert "Vidur (calibrated) predicts" in summary.verdict and "native (calibrated) predicts" not in summary.verdict
    assert "errors there are of the others: Plumbline native (calibrated) " in summary.verdict
    assert summary.table.iloc[:, 0].to_list()[1:] == ["vidur:calibrated", "native:calibrated*"]
    assert "*: it refused or lost requests" in summary.note
    [row] = [row for row in summary.path.read_text().split("<tr") if "native <small>calibrated<br>10 failed" in row]
    assert 'class="lost"' in row and 'class="near"' not in row


def test_a_run_too_short_for_its_load_says_so_and_its_scores_have_no_interval(write: Write) -> None:
    run = make_run(num_requests=40, rho=0.8, failures=(20,))
    summary, _ = write(run, make_simulated(run))
    start, end = run.window or (0.0, 0.0)
    served = sum(start <= r.arrival <= end and r.error is None for r in run.records)
    assert "(no interval)" in summary.verdict
    assert f"takes 432 requests at 80 % of capacity; this run has {served}." in summary.verdict
    assert "<small>no interval</small>" in summary.path.read_text()


def test_failures_are_counted_beside_the_run_that_had_them(write: Write) -> None:
    measured = make_run(failures=(2, 7))
    summary, _ = write(measured, make_simulated(measured))
    text = summary.path.read_text()
    assert "measured<br>2 failed" in text and "2 failed, " in text
    assert "calibrated<br>" not in text  # the simulator lost none


def test_what_was_refused_is_on_the_page_with_its_reason(write: Write) -> None:
    measured = make_run()
    other = make_run(trace=make_trace(seed=9))
    stray = dataclasses.replace(make_simulated(other), run_id="stray", measured_run_id=measured.run_id)
    summary, _ = write(measured, stray)
    reason = f"stray: not the same requests: its trace is {other.trace.sha256}, that of {measured.run_id} is {measured.trace.sha256}"
    assert reason in summary.verdict
    assert reason in summary.path.read_text()


def test_gauges_that_contradict_the_records_are_on_the_page(write: Write) -> None:
    measured = make_run()
    times = np.arange(0.1, measured.trace.duration, 0.25)
    gauges = [pd.DataFrame({"time": times, "name": name, "value": 40.0}) for name in ("num_requests_running", "num_requests_waiting")]
    wrong = dataclasses.replace(measured, telemetry=pd.concat(gauges, ignore_index=True))
    summary, _ = write(wrong)
    assert "Little's law fails: the engine's gauges show 80.0 requests in the system on average, the records " in summary.path.read_text()
    summary, _ = write(dataclasses.replace(measured, run_id="unwatched", telemetry=None), run_id="unwatched")
    assert "Little's law" not in summary.path.read_text()


REPEATABILITY = {"limit": 0.05, "worst": 0.18, "change": {"decode": 0.18}, "seconds": {"decode": [0.0118, 0.0139]}}


def test_a_machine_that_did_not_repeat_itself_is_said_first(write: Write) -> None:
    measured = make_run()
    measured = dataclasses.replace(measured, provenance={**measured.provenance, "repeatability": REPEATABILITY})
    summary, page = write(measured, make_simulated(measured))
    assert summary.notice is not None and "decode 11.8 and 13.9 ms" in summary.notice
    assert summary.verdict.startswith("The machine's own error is 18 %, and no simulator's error below that can be told. On vLLM")
    assert page.h1.replace("\u00a0", " ") == summary.verdict
    assert page.notice.replace("\u00a0", " ") == summary.notice


def test_a_second_try_says_so_on_the_page(write: Write) -> None:
    first = dataclasses.replace(make_run("first"), valid=False, invalid_reason="dispatch lag p99 31 ms above 10 ms")
    second = make_run("second", repeat=1)
    second = dataclasses.replace(second, config={**second.config, "earlier_tries": {"first": first.invalid_reason}})
    summary, _ = write(first, second, run_id="second")
    text = summary.path.read_text()
    assert "second try: first was INVALID (dispatch lag p99 31 ms above 10 ms)" in text[: text.index("<main>")]
    summary = Report(database=summary.path.with_name("plumbline.duckdb"), out=summary.path, bootstrap=FEW).write("first")
    assert "second try" not in summary.path.read_text()


def test_text_from_outside_cannot_become_markup(write: Write) -> None:
    evil = "</script><script>alert(1)</script>"
    measured = dataclasses.replace(make_run(), model=evil, hardware=evil, config={"engine": {evil: evil}}, version=evil)
    simulated = dataclasses.replace(make_simulated(measured), config={"simulator": {"coverage": {evil: "no"}}})
    summary, _ = write(measured, dataclasses.replace(simulated, system=evil))
    assert "<script>alert" not in summary.path.read_text()


def test_the_newest_measured_run_is_the_default_and_any_can_be_asked_for(write: Write) -> None:
    old, new = make_run("old", repeat=1), make_run("new", repeat=2)
    summary, _ = write(old, new, make_simulated(new))
    assert "<title>new" in summary.path.read_text()
    again = Report(database=summary.path.with_name("plumbline.duckdb"), out=summary.path, bootstrap=FEW).write("old")
    assert "<title>old" in again.path.read_text()


def test_the_same_database_gives_the_same_bytes(write: Write) -> None:
    measured = make_run()
    summary, _ = write(measured, make_simulated(measured))
    first = summary.path.read_bytes()
    Report(database=summary.path.with_name("plumbline.duckdb"), out=summary.path, bootstrap=FEW).write()
    assert summary.path.read_bytes() == first


def test_an_unknown_run_gets_one_line_with_the_near_ones_and_leaves_the_old_page(write: Write) -> None:
    measured = make_run("20260102-vllm-chat")
    simulated = make_simulated(measured)
    summary, _ = write(measured, simulated)
    before = summary.path.read_bytes()
    report = Report(database=summary.path.with_name("plumbline.duckdb"), out=summary.path, bootstrap=FEW)
    with pytest.raises(AnalysisError, match=r"no run is called 20260102-vlm-chat; did you mean 20260102-vllm-chat\?"):
        report.write("20260102-vlm-chat")
    with pytest.raises(AnalysisError, match=f"is a simulated run; give the measured one that it is held against: {measured.run_id}"):
        report.write(simulated.run_id)
    assert summary.path.read_bytes() == before
    assert sorted(path.name for path in summary.path.parent.iterdir()) == ["plumbline.duckdb", "report.html", "runs"]


def test_the_command_line_reports_and_prints_the_table(
    make_database: MakeDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = make_run()
    database = str(make_database(measured, make_simulated(measured)))
    main(["report", "--database", database, "--out", str(tmp_path / "deep" / "page.html")])
    assert capsys.readouterr().out.endswith(f"report: {tmp_path / 'deep' / 'page.html'}\n")
    main(["table", "--database", database, "--run", measured.run_id])
    assert capsys.readouterr().out.startswith(
        "| metric | measured | vidur:calibrated | vidur:calibrated error % |\n| :--- | ---: | ---: | ---: |\n"
    )
    main(["table", "--database", database, "--format", "csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "metric,measured,vidur:calibrated,vidur:calibrated error %"
    assert len(lines) == 12 and all(float(cell) is not None for cell in lines[1].split(",")[1:])
    main(["table", "--database", database, "--format", "latex"])
    assert capsys.readouterr().out.startswith(
        "\\begin{tabular}{lrrr}\n\\toprule\nmetric & measured & vidur:calibrated & vidur:calibrated error \\% \\\\\n"
    )


def test_a_missing_or_an_empty_database_gets_one_line(make_database: MakeDatabase, tmp_path: Path) -> None:
    for command in ("report", "table"):
        with pytest.raises(SystemExit, match=r"^analysis: .*nowhere\.duckdb: no such database; build it with `./plumbline database`"):
            main([command, "--database", str(tmp_path / "nowhere.duckdb")])
        with pytest.raises(SystemExit, match=r"plumbline\.duckdb: it has no measured run; measure one with `make bench`"):
            main([command, "--database", str(make_database())])
    assert not (tmp_path / "report.html").exists()


def test_the_configuration_makes_the_report_that_bench_writes() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("report/default", overrides=["+paths.database=here.duckdb"])
    OmegaConf.resolve(config)
    assert instantiate(config.report) == Report(database="here.duckdb", out="results/report.html", bootstrap=Bootstrap())
