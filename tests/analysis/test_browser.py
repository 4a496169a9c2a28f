"""The page as a browser shows it: drawn without an error, without a request, on a wide screen and on a phone, in light and dark."""

import dataclasses
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from analysis.report import Report
from analysis.stats import Bootstrap
from tests.analysis.conftest import CHROMIUM, MakeDatabase
from tests.runs import make_run, make_simulated

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
PATIENCE = 180_000  # ms; a busy machine is no error
SMALLEST = 4.5  # contrast of text that everyone can read (WCAG 2.2, 1.4.3)
CONTRAST = """() => {
    const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const back = light(rgb(getComputedStyle(document.body).backgroundColor));
    const fill = (node) => light(rgb(getComputedStyle(node).fill));
    const ratio = (node) => (Math.max(fill(node), back) + 0.05) / (Math.min(fill(node), back) + 0.05);
    return Math.min(...[...document.querySelectorAll('.plot .xtick text, .plot .ytick text, .plot .annotation-text')].map(ratio));
}"""
VISIBLE = """(name) => [...document.querySelectorAll('.plot')].flatMap((plot) => plot.data)
    .filter((trace) => trace.name === name).map((trace) => trace.visible !== false)"""


@pytest.fixture
def report(make_database: MakeDatabase, tmp_path: Path) -> Path:
    measured = make_run(num_requests=120, failures=(4,))
    unsteady = {"limit": 0.05, "worst": 0.2, "seconds": {"decode": [0.010, 0.012]}}
    measured = dataclasses.replace(
        measured,
        config={**measured.config, "earlier_tries": {"a-long-run-id-" * 5: "the client was late " * 10}},
        provenance={**measured.provenance, "repeatability": unsteady},
    )
    simulated = [
        make_simulated(measured, track="shipped", scale=2.5, noise=0.4),
        make_simulated(measured),
        make_simulated(measured, system="native"),
    ]
    return (
        Report(database=make_database(measured, *simulated), out=tmp_path / "report.html", bootstrap=Bootstrap(resamples=200)).write().path
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_readable_and_inside_the_page(browser: Browser, report: Path, width: int, scheme: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    _open(page, report)
    figures = page.locator(".plot")
    assert figures.count() == 9
    for figure in figures.all():
        assert figure.locator(".main-svg").count() > 0
        marks = figure.locator(".trace path, .trace .point, .errorbar, .scatterlayer path")
        assert marks.count() > 0, figure.get_attribute("data-figure")
        box = figure.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("note").is_visible() and "not repeat itself" in page.get_by_role("note").inner_text()
    assert page.evaluate(CONTRAST) >= SMALLEST
    assert complaints == []
    page.close()


def test_the_figures_follow_a_change_to_dark(browser: Browser, report: Path) -> None:
    page = browser.new_page(color_scheme="light")
    _open(page, report)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"({CONTRAST})() >= {SMALLEST}", timeout=PATIENCE)
    page.close()


def test_the_key_hides_and_shows_a_run_in_all_figures_by_keyboard(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    _open(page, report)
    name = "Vidur (shipped)"
    assert set(page.evaluate(VISIBLE, name)) == {True}
    button = page.get_by_role("button", name=name).first
    button.focus()
    page.keyboard.press("Enter")
    assert set(page.evaluate(VISIBLE, name)) == {False}
    assert set(page.evaluate(VISIBLE, "Vidur (calibrated)")) == {True}
    pressed = {one.get_attribute("aria-pressed") for one in page.get_by_role("button", name=name).all()}
    assert pressed == {"false"}
    page.keyboard.press("Enter")
    assert set(page.evaluate(VISIBLE, name)) == {True}
    page.close()


def test_every_figure_and_table_has_words_for_those_who_cannot_see_it(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    _open(page, report)
    assert page.get_by_role("img", name="milliseconds").count() >= 3
    assert all(len(figure.get_attribute("aria-label") or "") > 40 for figure in page.locator(".plot").all())
    assert page.locator("table").count() == page.locator("table > caption").count() > 0
    assert page.locator("h1").count() == 1
    page.close()


def _open(page: Page, report: Path) -> None:
    page.goto(report.as_uri(), timeout=PATIENCE)
    page.wait_for_selector("html[data-drawn]", timeout=PATIENCE)
