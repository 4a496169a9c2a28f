"""The page of compared settings, made by the command itself: what it says, and drawn in a browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from analysis.plan.compare_report import CompareReport
from simulators.native.__main__ import main
from tests.analysis.conftest import CHROMIUM

PATIENCE = 180_000  # ms; a busy machine is no error
WORDS = ("model=llama_3_1_8b", "hardware=h100", "workload=azure_conv_8k", "requests=4000", "slo.ttft=1", "slo.tpot=0.05")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    main(["compare", *WORDS, "tensor_parallel=[1,2,3]", f"out={folder}"])
    return folder / "compare.json"


def test_the_page_says_what_the_file_says(compared: Path) -> None:
    found, page = json.loads(compared.read_text()), compared.with_suffix(".html").read_text()
    best, other, cannot = found["settings"]
    assert found["headline"].startswith(f"{best['label']}: {best['rate_per_device']:.3g} requests/s a device") and best["front"]
    assert best["rate_per_device"] > other["rate_per_device"] == other["rate"] / other["devices"]
    assert best["low"] <= best["rate"] <= best["high"] and cannot["rate"] is None and "cannot be split" in cannot["why_not"]
    assert cannot["why_not"] in page and "llama_3_1_8b on h100, requests of azure_conv_8k, TTFT &lt;= 1000 ms, TPOT &lt;= 50 ms." in page


def test_words_of_a_comparison_are_escaped(compared: Path, tmp_path: Path) -> None:
    found = json.loads(compared.read_text())
    found["asked"] = found["headline"] = "<script>alert(1)</script>"
    for row in found["settings"]:
        row["label"], row["why_not"] = "<script>alert(2)</script>", "<b>"
    (tmp_path / "compare.json").write_text(json.dumps(found))
    assert "<script>alert(" not in CompareReport().write(tmp_path / "compare.json").path.read_text()


def test_a_comparison_without_a_rate_has_a_page(compared: Path, tmp_path: Path) -> None:
    main(["compare", *WORDS[:-1], "slo.tpot=1e-6", "tensor_parallel=[1,2]", f"out={tmp_path}"])
    page = (tmp_path / "compare.html").read_text()
    assert "None of 2 settings" in page and "at no rate do 90% of the requests meet the limits" in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_drawn_inside_its_width(browser: Browser, compared: Path, width: int, scheme: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(compared.with_suffix(".html").as_uri(), timeout=PATIENCE)
    page.wait_for_selector("html[data-drawn]", timeout=PATIENCE)
    assert page.locator(".plot .main-svg").count() >= 1 and page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()
