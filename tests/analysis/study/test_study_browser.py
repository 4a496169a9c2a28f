"""The study's page as a browser shows it: every figure, filters and their link, keyboard, phone, dark."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from analysis.data import open_database
from analysis.stats import Bootstrap
from analysis.study import embed, trust
from analysis.study.data import HEADLINES, read_study
from analysis.study.report import StudyReport
from results.database import connect
from tests.analysis.conftest import CHROMIUM
from tests.analysis.test_browser import CONTRAST, PATIENCE, SMALLEST
from tests.studies import build_study, make_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
FIGURES = {"opening", "heat", "knees", "goodput", "cdf-ttft", "cdf-tpot", "parity", "waterfall", "gantt"}
STATES = "() => Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => [plot.dataset.figure, plot.dataset.state]))"
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
SUMMARIES = """() => {
    const cells = D.cells.map((cell, i) => ({ ...cell, i }));
    return D.metrics.map((metric, i) => {
        const all = chosenSimulators().map((sim) => summary(sim, { ...metric, i }, cells));
        const best = nearestOf(all, cells.length);
        return { best: best && all.indexOf(best), all: all.map((one) => one && { ...one, covered: one.covered.size }) };
    });
}"""
DATA = '<script type="application/json" id="data">'


@pytest.fixture(scope="module")
def report(study_page: Path) -> Path:
    return study_page


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """On a laptop; a complaint of the page, or a request to anywhere, fails the test."""
    with_complaints = opened(browser, report)
    yield with_complaints
    with_complaints.close()


def opened(browser: Browser, report: Path, fragment: str = "", *, width: int = 1366, scheme: Any = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    page.on("close", lambda _: _assert_none(complaints))
    page.goto(report.as_uri() + fragment, timeout=PATIENCE)
    page.wait_for_selector("html[data-ready]", timeout=PATIENCE)
    return page


def _assert_none(complaints: list[str]) -> None:
    assert complaints == []


def draw_all(page: Page) -> dict[str, str]:
    """Scroll to every figure, as a reader would; what became of each."""
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed(timeout=PATIENCE)
        page.wait_for_function("(plot) => plot.dataset.state", arg=plot.element_handle(), timeout=PATIENCE)
    states: dict[str, str] = page.evaluate(STATES)
    return states


def table(page: Page, place: str) -> list[list[str]]:
    page.locator(f"#{place}").scroll_into_view_if_needed(timeout=PATIENCE)
    page.wait_for_selector(f"#{place} *", timeout=PATIENCE)
    rows: list[list[str]] = page.evaluate(
        "(place) => [...document.querySelectorAll(`#${place} tbody tr`)].map((row) => [...row.children].map((cell) => cell.innerText))",
        place,
    )
    return rows


@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (390, "dark")])
def test_every_figure_is_drawn_readable_and_inside_the_page(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page = opened(browser, report, width=width, scheme=scheme)
    states = draw_all(page)
    assert states.keys() == FIGURES
    assert set(states.values()) == {"drawn"}
    for plot in page.locator(".plot").all():
        box = plot.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
        assert plot.locator(".trace path, .point path, .scatterlayer path, .heatmaplayer image").count() > 0
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(CONTRAST) >= SMALLEST
    page.close()


def test_filters_act_on_figures_and_tables_and_their_state_is_a_link(browser: Browser, report: Path, page: Page) -> None:
    assert [row[0].split("\n")[0] for row in table(page, "scorecard")].count("Vidur") == 3
    page.get_by_role("checkbox", name="calibrated").check(force=True)
    page.get_by_role("checkbox", name="vLLM").check(force=True)
    page.get_by_role("checkbox", name="1.6").check(force=True)
    assert page.evaluate("location.hash") == "#engine=vllm&rho=1.6&track=calibrated"
    linked = opened(browser, report, page.evaluate("location.hash"))
    for one in (page, linked):
        assert [row[0].split("\n")[0] for row in table(one, "scorecard")] == ["Noise floor", "Plumbline native", "Vidur"]
        assert {row[1].split(", ρ ")[1] for row in table(one, "runs-table")} == {"1.6"}
        assert one.get_by_role("checkbox", checked=True).count() == 3
        draw_all(one)
        panels = one.evaluate(
            "document.querySelector('[data-figure=heat]').data.filter((trace) => trace.type === 'heatmap').map((t) => t.z)"
        )
        assert [(len(z), len(z[0])) for z in panels] == [(2, 1), (2, 1)]  # 2 workloads: 2 simulators by 1 load
        names = one.evaluate("[...new Set(document.querySelector('[data-figure=knees]').data.map((trace) => trace.name))]")
        assert sorted(names) == ["Plumbline native (calibrated)", "Vidur (calibrated)", "measured"]
    linked.get_by_role("button", name="Reset").click()
    assert linked.evaluate("location.hash") == ""
    assert len(table(linked, "scorecard")) == 8
    linked.close()


def test_a_page_over_several_studies_has_a_filter_by_study_and_one_over_one_has_none(browser: Browser, page: Page, tmp_path: Path) -> None:
    runs = [
        dataclasses.replace(run, run_id=f"{name}-{run.run_id}", measured_run_id=run.measured_run_id and f"{name}-{run.measured_run_id}")
        for name in ("first", "second")
        for run in make_study(name=name, engines=("vllm",), workloads=("mooncake_like",), loads=(0.4, 1.6), num_requests=20, repeats=1)
    ]
    database = build_study(tmp_path, runs)
    every = StudyReport(database=database, out=tmp_path / "study.html", bootstrap=Bootstrap(resamples=100))
    every.write()
    with connect(database, read_only=False) as connection:
        for name in ("first", "second"):
            choice = (name, "vidur", "matched", "max_num_seqs", "rate=9/s", "ttft", "p50", 2, 1.0, 0.0, name, name)
            connection.execute(f"INSERT INTO rankings VALUES ({', '.join('?' * len(choice))})", choice)
    both = opened(browser, every.write_scored().path)
    assert len(table(both, "runs-table")) == len(runs)
    both.locator(".skip").focus()
    both.keyboard.press("Enter")
    for key in ("Tab", "Tab", "Space"):  # to the first study, to the second
        both.keyboard.press(key)
    assert both.evaluate("location.hash") == "#study=second"
    assert both.get_by_role("group", name="Study").get_by_role("checkbox", checked=True).count() == 1
    assert len(table(both, "runs-table")) == len(runs) / 2
    assert all("second" in row[1] and "first" not in row[1] for row in table(both, "runs-table"))
    assert [row[-4] for row in table(both, "rankings-table")] == ["second"]
    draw_all(both)
    assert both.evaluate("[...scenarios().keys()]") == ["vLLM · mooncake like · second"]
    both.close()
    assert page.get_by_role("group", name="Study").count() == 0
    page.goto(page.url + "#study=handmade")
    assert page.get_by_role("checkbox", checked=True).count() == 0


def test_a_link_with_nonsense_shows_everything_and_one_that_leaves_nothing_says_why(browser: Browser, report: Path) -> None:
    page = opened(browser, report, "#engine=nonsense&metric=nonsense&cell=nonsense")
    assert len(table(page, "scorecard")) == 8
    page.evaluate("location.hash = '#track=shipped&simulator=aisimulate'")
    page.wait_for_selector("#scorecard .empty", timeout=PATIENCE)
    assert set(draw_all(page).values()) >= {"empty"}
    assert "Press Reset" in page.locator("[data-figure=heat]").inner_text()
    page.close()


def test_the_scorecard_says_what_the_rules_in_python_say(page: Page, report: Path) -> None:
    with open_database(report.with_name("plumbline.duckdb")) as connection:
        study = read_study(connection, report, "handmade")
    shown = {tuple(row[0].split("\n")[:2]): row[1:] for row in table(page, "scorecard")}
    tints = page.evaluate(
        "[...document.querySelectorAll('#scorecard tbody tr:not(.floor)')].map((row) => [...row.children].map((c) => c.className))"
    )
    grades = {"near": "trust", "off": "care", "unproven": "unproven", "far": "not"}
    for i, key in enumerate(HEADLINES):
        for record in trust.records(study, key):
            place = study.simulators.index(record.simulator)
            name = next(name for name in shown if list(shown).index(name) == place + 1)
            typical = float(shown[name][i].split("\n")[0].replace("×", "").rstrip(" %"))
            assert typical == pytest.approx(100 * record.typical, abs=0.06 if typical < 10 else 0.6), (key, record)
            assert grades[tints[place][i + 1].split()[0]] == record.grade, (key, record)


def random_scores(rng: np.random.Generator, simulators: list[tuple[str, str]], cells: list[str]) -> pd.DataFrame:
    """Rows of cell_fidelity: of every simulator and headline some cells, small errors and large ones, some without interval or requests."""
    rows = []
    for system, track in simulators:
        for metric, stat in HEADLINES:
            scale, share = rng.choice([0.02, 0.05, 0.1, 0.4]), rng.choice([0.3, 0.7, 1.0, 1.0])
            for cell in cells:
                if rng.random() < share:
                    error, width = max(-1.0, rng.normal(0, scale)), rng.exponential(scale / 4)
                    about = {"cell": cell, "system": system, "track": track, "metric": metric, "stat": stat, "measured": 1.0}
                    ends = {"error_low": error - width, "error_high": error + width if rng.random() < 0.98 else None}
                    noise = {"noise": 0.01, "noise_multiple": abs(error) / 0.01 if rng.random() < 0.5 else None}
                    rows.append({**about, "error": error, **ends, **noise, "failed": 0.3 if rng.random() < 0.03 else 0.0})
    return pd.DataFrame(rows).astype({"error_high": float, "noise_multiple": float})


def test_the_page_and_python_have_the_same_rules_on_any_scores(browser: Browser, report: Path, tmp_path: Path) -> None:
    head, _, rest = report.read_text().partition(DATA)
    text, _, tail = rest.partition("</script>")
    data = json.loads(text)
    with open_database(report.with_name("plumbline.duckdb")) as connection:
        study = read_study(connection, report, "handmade")
    cells = [f"{place:02d}" for place in range(13)]
    scores = random_scores(np.random.default_rng(5), list(study.simulators), cells)
    study = dataclasses.replace(study, scores=scores, cells=pd.DataFrame({"cell": cells, "repeats": 1}))
    data |= {name: [] for name in ("cdf", "parity", "waterfall", "gantt", "rankings", "runs")}
    data["knees"] = {name: [] for name in data["knees"]}
    scenario = "vLLM · azure conv tiny · 32 sequences · 1024 batched tokens"
    data["cells"] = [{**data["cells"][0], "cell": cell, "rho": place / 10, "scenario": scenario} for place, cell in enumerate(cells)]
    values = {name: scores[name].to_numpy() for name in data["scores"] if name in scores and name not in ("cell", "metric")}
    places = {
        "cell": [cells.index(cell) for cell in scores["cell"]],
        "sim": [study.simulators.index(one) for one in zip(scores["system"], scores["track"], strict=True)],
        "metric": [HEADLINES.index((one.metric, one.stat if isinstance(one.stat, str) else None)) for one in scores.itertuples()],
    }
    data["scores"] = {**values, "simulated": [None] * len(scores), **places}
    (tmp_path / "random.html").write_text(f"{head}{DATA}{embed.to_json(data)}</script>{tail}")
    page = opened(browser, tmp_path / "random.html", width=390)
    page.locator("[data-figure=heat]").scroll_into_view_if_needed(timeout=PATIENCE)
    page.wait_for_selector("[data-figure=heat][data-state=drawn]", timeout=PATIENCE)
    titles = page.evaluate("document.querySelector('[data-figure=heat]').layout.annotations.map((one) => one.text)")
    assert any("<br>32 sequences · 1024 batched" in title for title in titles)  # what tells panels apart is not cut off
    assert page.evaluate(OVERFLOW) <= 0
    grades, bests = set(), set()
    for key, said in zip(HEADLINES, page.evaluate(SUMMARIES), strict=True):
        found = trust.records(study, key)
        for record in found:
            one = said["all"][study.simulators.index(record.simulator)]
            assert (one["grade"], one["cells"], one["covered"]) == (record.grade, record.cells, record.cells - record.lost), record
            assert (one["typical"], one["bound"]) == pytest.approx((record.typical, record.bound)), record
            grades.add(record.grade)
        assert sum(one is not None for one in said["all"]) == len(found)
        best = found[0].simulator if found and found[0].shared else None
        assert said["best"] == (None if best is None else study.simulators.index(best)), key
        bests.add(best)
    assert grades == set(trust.GRADES) and len(bests) > 2
    page.close()


def test_a_cell_with_a_long_name_leaves_a_phones_page_as_wide_as_the_phone(browser: Browser, report: Path) -> None:
    page = opened(browser, report, width=390)
    page.evaluate("document.querySelector('#requests select[data-choose=cell]').options[0].text = 'long '.repeat(30)")
    assert page.evaluate(OVERFLOW) <= 0
    page.close()


def test_choices_follow_the_filter_of_what_their_cells_have_in_common(page: Page) -> None:
    assert [row[-1] for row in table(page, "rankings-table")] == ["20 %", "0.0 %"]
    page.get_by_role("checkbox", name="mooncake like").check(force=True)
    page.get_by_role("checkbox", name="SGLang").check(force=True)
    assert [row[2] for row in table(page, "rankings-table")] == ["workload mooncake like, rate 9/s"]


def test_links_to_runs_lead_to_their_folders(page: Page, report: Path) -> None:
    assert table(page, "runs-table")
    links = page.evaluate("[...document.querySelectorAll('#runs-table a')].map((link) => link.getAttribute('href'))")
    data = json.loads(page.locator("#data").text_content() or "")
    assert len(links) == len(data["runs"])
    assert all((report.parent / link / "run.json").is_file() for link in links)
    page.locator("#runs-table summary").first.click()
    assert "trace sha256" in page.locator("#runs-table dl").first.inner_text()
    page.get_by_role("checkbox", name="only what is INVALID").check()
    assert [row[3] for row in table(page, "runs-table")] == ["INVALID dispatch lag p99 31 ms above 10 ms"] * 2


def test_a_cell_without_a_valid_run_is_shown_as_such_and_in_no_number(page: Page) -> None:
    draw_all(page)
    marks = page.evaluate("document.querySelector('[data-figure=heat]').layout.annotations.filter((note) => note.text === '×').length")
    assert marks == 7  # one per simulator
    page.get_by_text("The same as a table").click()
    lost = [row for row in table(page, "cells-table") if "INVALID" in row]
    assert [row[0] for row in lost] == ["SGLang · mooncake like, ρ 1.6"]
    assert set(lost[0][2:]) == {"INVALID"} and lost[0][1] == "–"


def test_a_square_of_the_heat_map_chooses_the_cell_that_the_figures_below_show(page: Page) -> None:
    draw_all(page)
    heat = page.locator("[data-figure=heat]")
    heat.scroll_into_view_if_needed()
    heat.locator(".nsewdrag").nth(1).click(position={"x": 30, "y": 30})
    page.wait_for_function("location.hash.includes('cell=')", timeout=PATIENCE)
    assert page.locator("#timeline .cell-name").inner_text().endswith("mooncake like, ρ 0.4")
    assert (
        page.locator("#requests select[data-choose=cell]").evaluate("(one) => one.selectedOptions[0].text").endswith("mooncake like, ρ 0.4")
    )


def test_the_keyboard_reaches_the_filters_the_tables_and_the_theme(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "filters"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.value") == "vllm"
    outline = page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Space")
    assert page.evaluate("location.hash") == "#engine=vllm"
    table(page, "scorecard")
    region = page.locator("#scorecard .scroll")
    assert region.get_attribute("tabindex") == "0" and region.get_attribute("aria-label")
    theme = page.get_by_role("button", name="Theme")
    theme.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert theme.inner_text() == "Theme: dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"
    assert page.locator(".skip").evaluate("(link) => getComputedStyle(link).position") == "absolute"


def test_a_link_to_a_section_stays_there_while_what_is_above_it_is_drawn(page: Page) -> None:
    page.get_by_role("link", name="One stretch, request by request").click()
    page.wait_for_selector("[data-figure=gantt][data-state=drawn]", timeout=PATIENCE)
    page.wait_for_function("document.activeElement.id === 'timeline'", timeout=PATIENCE)
    assert 0 <= page.evaluate("document.getElementById('timeline').getBoundingClientRect().top") < 200
    assert page.evaluate("location.hash") == ""


def test_every_figure_and_table_has_words_for_those_who_cannot_see_it(page: Page) -> None:
    for place in ("scorecard", "rankings-table", "runs-table"):
        table(page, place)
    assert all(len(plot.get_attribute("aria-label") or "") > 40 for plot in page.locator(".plot").all())
    assert all("SQL:" in caption for caption in page.locator("figcaption").all_inner_texts())
    assert page.locator("table:not(.prose table)").count() == page.locator("table:not(.prose table) > caption").count() > 2
    assert page.locator("h1").count() == 1
