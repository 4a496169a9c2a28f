"""The page of a recommendation, made by the command itself: what it says, and drawn in a browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from analysis.plan.report import PlanReport
from simulators.native.__main__ import main
from tests.analysis.conftest import CHROMIUM

PATIENCE = 180_000  # ms; a busy machine is no error
WORDS = ("recommend", "model=llama_3_1_8b", "hardware=[h100,l40s]", "tensor_parallel=[1,3]", "limits.max_num_seqs=256", "requests=300")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    main([*WORDS, "rate=25", "slo.ttft=1", "slo.tpot=0.05", f"out={folder}"])
    return folder / "plan.json"


def test_the_file_has_every_way_and_the_page_says_the_same(plan: Path) -> None:
    found, page = json.loads(plan.read_text()), plan.with_suffix(".html").read_text()
    assert len(found["ways"]) == 16 and [way["number"] for way in found["ways"] if way["chosen"]] == [found["choice"]]
    chosen = next(way for way in found["ways"] if way["chosen"])
    assert f"{chosen['devices']} x {chosen['hardware']}" in found["headline"] and "How sure" in found["sure"]
    assert "How sure: " in page and "vllm serve MODEL" in page and "Ways that cannot" in page
    at_the_rate = [point for curve in found["curves"][:1] for point in curve["points"] if point["rate"] == found["rate"]]
    assert [point["tpot_p50"] for point in at_the_rate] == [chosen["tpot_p50"]]
    assert all(way["good"] >= 0.9 for way in found["ways"] if way["replicas"])


def test_a_plan_that_nothing_meets_has_a_page_too(tmp_path: Path) -> None:
    main([*WORDS, "rate=25", "slo.tpot=0.0001", f"out={tmp_path}"])
    page = (tmp_path / "plan.html").read_text()
    assert "None of 16 ways" in page and "Ways that cannot" in page and "Ways to serve" not in page


def test_words_of_a_plan_are_escaped(plan: Path, tmp_path: Path) -> None:
    found = json.loads(plan.read_text())
    for way in found["ways"]:
        way["label"], way["why_not"] = "<script>alert(1)</script>", "<b>"
    (tmp_path / "plan.json").write_text(json.dumps(found))
    assert "<script>alert(1)" not in PlanReport().write(tmp_path / "plan.json").path.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_drawn_inside_its_width(browser: Browser, plan: Path, width: int, scheme: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(plan.with_suffix(".html").as_uri(), timeout=PATIENCE)
    page.wait_for_selector("html[data-drawn]", timeout=PATIENCE)
    assert page.locator(".plot .main-svg").count() >= 5
    assert page.locator("h1").count() == 1 and page.locator("table").count() == page.locator("table > caption").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()
