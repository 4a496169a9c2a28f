"""The page of a day, made by the command itself: what it says, and drawn in a browser."""

import json
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from analysis.plan.day_report import DayReport
from simulators.native.__main__ import main
from tests.analysis.conftest import CHROMIUM

PATIENCE = 180_000  # ms; a busy machine is no error
WORDS = ("model=llama_3_1_8b", "hardware=l40s", "workload=azure_conv_like", "rate=20", "day.seconds=240", "requests=2000", "slo.ttft=0.5")
SCALED = ("autoscale.start_up=5", "autoscale.interval=2", "autoscale.stabilisation=10", "second.share=0.2", "second.slo.ttft=5")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("day")
    main(["day", *WORDS, *SCALED, f"out={folder}"])
    return folder / "day.json"


def test_the_file_and_the_page_say_the_same(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, page = json.loads(day.read_text()), day.with_suffix(".html").read_text()
    static, scaled = found["fleets"]["static"], found["fleets"]["autoscaled"]
    assert f"{scaled['gpu_hours']:.4g} GPU-hours" in found["headline"] and f"{static['gpu_hours']:.4g}" in found["headline"]
    assert found["headline"].split(":")[0] in page.replace("&nbsp;", " ")
    assert found["asked"].startswith(
        "Asked: llama_3_1_8b on l40s, requests of azure_conv_like, TTFT <= 500 ms, TPOT <= 100 ms; second class: TTFT <= 5000 ms"
    )
    assert escape(found["asked"]) in page and f"<td>{100 * static['classes']['first']['good']:.1f} %</td>" in page.replace("\u00a0", " ")
    assert static["gpu_hours"] == 24 * max(static["replicas"]) and len(static["replicas"]) == len(found["hours"]) == 288
    for fleet in (static, scaled):
        assert sum(one["requests"] for one in fleet["classes"].values()) == found["requests"]
        assert all(len(one["good_by_hour"]) == 24 for one in fleet["classes"].values())
    assert any("360 times as fast" in note for note in found["notes"]) and "20% of the requests are of the second class" in page


def test_words_of_a_day_are_escaped(day: Path, tmp_path: Path) -> None:
    found = json.loads(day.read_text())
    found["headline"], found["notes"] = "<script>alert(1)</script>", ["<script>alert(2)</script>"]
    (tmp_path / "day.json").write_text(json.dumps(found))
    assert "<script>alert(" not in DayReport().write(tmp_path / "day.json").path.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_drawn_inside_its_width(browser: Browser, day: Path, width: int, scheme: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(day.with_suffix(".html").as_uri(), timeout=PATIENCE)
    page.wait_for_selector("html[data-drawn]", timeout=PATIENCE)
    assert page.locator(".plot .main-svg").count() >= 3
    assert page.locator("h1").count() == 1 and page.locator("table").count() == page.locator("table > caption").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("path.zl").count() == 0  # Plotly's zero lines are white, whatever the page is
    assert complaints == []
    page.close()
