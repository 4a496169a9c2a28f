"""The study's page and its words, from real run folders; the page as a browser sees it is in test_study_browser.py."""

import dataclasses
import json
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.data import AnalysisError, open_database
from analysis.page.document import folder_of
from analysis.stats import Bootstrap
from analysis.study import embed, findings, opening, samples, trust, words
from analysis.study.data import HEADLINES, StudyData, read_study
from analysis.study.report import StudyReport
from tests.analysis.conftest import MakeDatabase
from tests.analysis.test_report import Page
from tests.runs import make_run, make_simulated, make_trace

FEW = Bootstrap(resamples=100)


@pytest.fixture(scope="module")
def database(study_page: Path) -> Path:
    return study_page.with_name("plumbline.duckdb")


@pytest.fixture(scope="module")
def study(database: Path) -> StudyData:
    with open_database(database) as connection:
        return read_study(connection, database, "handmade")


@pytest.fixture(scope="module")
def page(database: Path) -> Page:
    return Page((database.parent / "study.html").read_text())


def test_the_page_opens_with_the_verdict_and_loads_nothing_from_anywhere(page: Page, study: StudyData, database: Path) -> None:
    first, verdict = opening.opening(study), words.verdict(study)
    assert page.h1.replace("\u00a0", " ") == first.headline
    assert page.h1.startswith("On CPU-TEST, Plumbline native (calibrated) comes nearest: ")
    text = (database.parent / "study.html").read_text().replace("&nbsp;", " ")
    assert verdict.headline.startswith(
        "Over 7 measured cells on vLLM and SGLang, Plumbline native (calibrated) comes nearest of 7 simulators"
    )
    places = [text.index(escape(said)) for said in (first.headline, *first.others, verdict.headline)]
    assert places == sorted(places) and places[0] < text.index('data-figure="opening"') < places[-1]
    assert all(address.startswith("data:") for address in page.loads)
    text = (database.parent / "study.html").read_text()
    assert len(text) < 15_000_000
    assert "@import" not in text and "fetch(" not in text.split("</script>")[-2]


def test_every_run_of_the_study_is_embedded_once_with_a_link_to_a_folder_that_is_there(
    page: Page, study: StudyData, database: Path
) -> None:
    data = json.loads(page.blocks["data"])
    assert sorted(run["id"] for run in data["runs"]) == sorted(study.runs)
    assert all((database.parent / run["link"] / "run.json").is_file() for run in data["runs"])
    assert [run["reason"] for run in data["runs"] if run["reason"]] == ["dispatch lag p99 31 ms above 10 ms"] * 2
    names = {data["facts"][fact][0] for fact in data["runs"][0]["facts"]}
    assert {"trace sha256", "configured.load.rho", "provenance.host", "resolved.max_num_seqs"} <= names


def test_what_is_embedded_is_what_the_views_say(page: Page, study: StudyData) -> None:
    data = json.loads(page.blocks["data"])
    place = HEADLINES.index(("tpot", "p50"))
    embedded = {
        (data["cells"][cell]["cell"], data["simulators"][sim]["label"]): error
        for cell, sim, metric, error in zip(*(data["scores"][name] for name in ("cell", "sim", "metric", "error")), strict=True)
        if metric == place
    }
    rows = study.scores[study.scores["metric"].eq("tpot") & study.scores["stat"].eq("p50")]
    assert len(embedded) == len(rows) == len(study.valid_cells) * len(study.simulators)
    for row in rows.itertuples():
        label = next(sim["label"] for sim in data["simulators"] if (sim["system"], sim["track"]) == (row.system, row.track))
        assert embedded[row.cell, label] == pytest.approx(row.error, rel=1e-4)


def test_four_digits_are_kept_whatever_the_size() -> None:
    values = np.array([123456.0, 0.000123456, -2.34567, 0.0, np.nan, np.inf])
    np.testing.assert_allclose(samples.digits(values)[:4], [123500.0, 0.0001235, -2.346, 0.0], rtol=1e-12)
    assert np.isnan(samples.digits(values)[4:]).all()
    assert embed.to_json({"a": samples.digits([np.nan, 1.5]), "b": "</script>"}) == '{"a":[null,1.5],"b":"\\u003c/script>"}'


def test_the_bound_is_never_rosier_than_any_cell_or_interval(study: StudyData) -> None:
    for key in words.QUESTIONS:
        for record in trust.records(study, key):
            mine = study.scores[
                study.scores["system"].eq(record.simulator[0])
                & study.scores["track"].eq(record.simulator[1])
                & study.scores["metric"].eq(key[0])
                & (study.scores["stat"].isna() if key[1] is None else study.scores["stat"].eq(key[1]))
            ].dropna(subset=["error"])
            assert record.cells == len(mine) < trust.MANY
            errors = mine["error"].to_numpy(dtype=float)
            assert record.bound >= np.nanmax(np.abs(mine[["error", "error_low", "error_high"]].to_numpy(dtype=float)))
            assert (record.worst, record.typical) == (np.max(np.abs(errors)), np.median(np.abs(errors)))
            assert record.grade != "trust" or record.bound <= trust.TRUST


def test_a_simulator_that_covers_few_cells_is_neither_the_nearest_nor_trusted(study: StudyData) -> None:
    found = trust.nearest(study, words.OVERALL)
    assert found is not None and len(found.among) == 7 and found.cells == 7
    best = found.simulator
    assert best == ("native", "calibrated")
    cells = study.cells["cell"].tolist()[:1]
    is_best = study.scores["system"].eq("native") & study.scores["track"].eq("calibrated")
    thin = dataclasses.replace(study, scores=study.scores[~is_best | study.scores["cell"].isin(cells)])
    other = trust.nearest(thin, words.OVERALL)
    assert other is not None and best not in other.among
    record = next(record for record in trust.records(thin, ("tpot", "p50")) if record.simulator == best)
    assert not record.covers and record.grade == "care"
    assert all(answer.nearest is None or answer.nearest.simulator != best or answer.grade == "not" for answer in words.answers(thin))


def test_the_verdict_says_what_is_known_of_the_noise_and_of_saturation(study: StudyData) -> None:
    told = dataclasses.replace(study, cells=study.cells.assign(saturated=study.cells["rho"] > 1))
    below, saturated, distrust, left_out = words.verdict(told).reasons
    assert below.startswith("Below saturation (4 cells): trust it for") and "× noise" in below
    assert saturated.startswith("Saturated (3 cells)") and saturated.endswith("Nothing was repeated there: the noise floor is unknown.")
    assert "output throughput" in saturated and "output throughput" not in below  # below, it is what is offered
    assert distrust.startswith("Not to be trusted for any latency: ") and "Vidur (shipped" in distrust
    assert left_out == "1 cell without a valid run: left out."
    assert {(one.question, one.part) for one in words.answers(told)} >= {("TTFT p50", "below saturation"), ("Goodput", "saturated")}
    untold = dataclasses.replace(study, cells=study.cells.assign(saturated=None))
    assert {one.part for one in words.answers(untold)} == {"saturation unknown"}


def test_nothing_to_trust_is_said_in_the_first_sentence(study: StudyData) -> None:
    errors = ["error", "error_low", "error_high"]
    worse = study.scores.assign(**{column: study.scores[column].abs() + 0.5 for column in errors})
    said = words.verdict(dataclasses.replace(study, scores=worse))
    assert said.headline.endswith(", and is not to be trusted without care for anything.")
    assert {one.grade for one in words.answers(dataclasses.replace(study, scores=worse))} == {"not"}


def test_without_repeats_simulators_or_valid_runs_the_page_says_so(make_database: MakeDatabase, tmp_path: Path) -> None:
    lone = make_run(telemetry=False)
    path = make_database(lone)
    report = StudyReport(database=path, out=tmp_path / "study.html", bootstrap=FEW)
    assert report.write().verdict == "Over 1 measured cell on vLLM, nothing was simulated: there is no simulator to judge."
    spoilt = dataclasses.replace(make_run("b", trace=make_trace(seed=3, name="another")), valid=False, invalid_reason="the client was late")
    make_database(spoilt, make_simulated(spoilt))
    summary = report.write()
    assert summary.verdict == (
        "Over 1 measured cell on vLLM, no simulator covers half of the cells: none can be trusted on what was measured. "
        "1 cell without a valid run: left out."
    )
    assert "the client was late" in summary.path.read_text()


def test_findings_have_queries_that_run_and_hold_what_the_sentence_says(study: StudyData, database: Path) -> None:
    found = findings.findings(study)
    assert any("INVALID" in finding.text for finding in found)
    with open_database(database) as connection:
        for finding in found:
            assert connection.execute(finding.query).fetchall(), finding
        calibration = next(finding for finding in found if "from track to track" in finding.text)
        rows = connection.execute(calibration.query).fetchall()
    said = " ".join(calibration.items)
    assert {system for system, track, *_ in rows if track == "shipped"} == {"vidur", "native"}
    for system, track, _, error in rows:
        if system == "vidur":
            percent = re.search(rf"Vidur: .*?([\d.]+) % {track}", said)
            assert percent is not None and float(percent.group(1)) == pytest.approx(100 * error, rel=0.05)


def test_notes_are_rendered_and_raw_html_in_them_is_not_obeyed(study: StudyData, tmp_path: Path) -> None:
    notes = tmp_path / "findings.md"
    notes.write_text("## A *thing*\n<script>alert(1)</script>\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n")
    html = findings.as_html(study, notes)
    assert "<h3>A <em>thing</em></h3>" in html and "<script>" not in html and "<td>1</td>" in html
    assert "findings.md" not in findings.as_html(study, tmp_path / "none.md")


def test_the_evidence_of_a_note_opens_below_it_and_no_link_leaves_the_page(study: StudyData, tmp_path: Path) -> None:
    notes, page = tmp_path / "findings.md", tmp_path / "findings" / "thing.md"
    page.parent.mkdir()
    page.write_text("# A thing\n[All findings](../findings.md). Why:\n```sql\nselect 1;\n```\n[a paper](https://example.org/paper)\n")
    notes.write_text("# Findings\n\n## [A thing](findings/thing.md)\n- **Seen**: it\n\n## [Lost](findings/lost.md)\n- **Seen**: no page\n")
    html = findings.as_html(study, notes)
    assert html.index("<strong>Seen</strong>: it") < html.index("select 1;") < html.index("<h3>Lost</h3>") < html.index("no page")
    assert html.count("The evidence") == 1
    assert re.findall('href="([^"]*)"', html) == ["https://example.org/paper"]


def test_every_page_of_evidence_in_docs_is_in_a_study_s_page(study: StudyData) -> None:
    html = findings.as_html(study)
    assert html.count("The evidence") == len(list(findings.NOTES.with_suffix("").glob("*.md"))) > 0


def test_the_command_line_writes_a_study_and_names_those_there_are(
    make_database: MakeDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "study.html"
    measured = make_run(num_requests=12)
    measured = dataclasses.replace(measured, config={**measured.config, "study": {"name": "handmade", "cell": "0123456789ab"}})
    database = make_database(measured, make_simulated(measured))
    main(["report", "--study", "handmade", "--database", str(database), "--out", str(out)])
    assert capsys.readouterr().out.endswith(f"report: {out}\n")
    assert out.is_file()
    with pytest.raises(SystemExit, match=r"no study is called handmad; there is handmade"):
        main(["report", "--study", "handmad", "--database", str(database), "--out", str(out)])


def test_an_empty_database_is_one_line(make_database: MakeDatabase, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="it has no measured run; run a study with `make study`"):
        StudyReport(database=make_database(), out=tmp_path / "study.html", bootstrap=FEW).write()


def test_a_run_in_object_storage_is_linked_by_its_own_address_and_one_on_disk_relative_to_the_page(
    study: StudyData, database: Path
) -> None:
    run = next(iter(study.runs.values()))
    assert folder_of(run, database.parent / "pages") == f"../runs/{run.run_id}"
    assert folder_of(dataclasses.replace(run, path=f"s3://bucket/runs/{run.run_id}"), database.parent) == f"s3://bucket/runs/{run.run_id}"


def test_cells_that_differ_in_an_engine_setting_alone_are_scenarios_of_their_own(make_database: MakeDatabase, tmp_path: Path) -> None:
    measured = make_run("a")
    limits = dataclasses.replace(measured.limits, max_num_batched_tokens=512, prefix_caching=True)
    other = dataclasses.replace(make_run("b", trace=measured.trace), limits=limits)
    path = make_database(measured, other)
    StudyReport(database=path, out=tmp_path / "study.html", bootstrap=FEW).write()
    cells = json.loads(Page((tmp_path / "study.html").read_text()).blocks["data"])["cells"]
    assert sorted(cell["scenario"] for cell in cells) == [
        "vLLM · handmade · 2048 batched tokens · no prefix caching",
        "vLLM · handmade · 512 batched tokens · prefix caching",
    ]
