"""What the pages name exists: links, files, classes, verbs; findings have the form that people and the study's page read."""

import re
from pathlib import Path

import pytest

from results.project.folder import ROOT
from tests.docs.pages import LANGUAGES, VERBS, blocks, pages

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)\)")
CODE = re.compile(r"```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`(?:(?P<name>\w+)` in `)?(?P<path>[\w./-]+)`")
HEAD = re.compile(r"^#+ (.*)$", re.MULTILINE)
FINDING = re.compile(r"^## \[[^\]]+\]\((findings/[\w-]+\.md)\)\n- \*\*Seen\*\*: .+\n- \*\*Cause\*\*: .+\n- \*\*Do\*\*: .+\n", re.MULTILINE)
FOREIGN_MODULES = ("bench", "sglang.bench_serving")  # LLMServingSim's, SGLang's
FORMER_MODULES = ("simulators.checkout",)  # which the changelog names
DEFINED = r"(^|\s)(class|def) {0}\b|^{0}\b.*=|CREATE (VIEW|TABLE|MACRO) {0}\b|'{0}'|\bAS {0}\b"


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures, code left out."""
    return [match["target"] for match in LINK.finditer(CODE.sub("", page.read_text()))]


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be reached by, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in HEAD.findall(page.read_text())}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, fragment = target.partition("#")
        led = page if not path else (page.parent / path).resolve()
        assert led.exists(), f"{page.name} links to {target}"
        assert not fragment or fragment in anchors(led), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_fenced_block_says_what_it_holds(page: Path) -> None:
    assert all(block.language in LANGUAGES for block in blocks(page))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_inside_a_sentence_names_what_there_is(page: Path) -> None:
    sentences = re.sub(r"```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {"./plumbline": {*VERBS, "VERB"}, "make": set(targets), "python -m": {*modules(), *FORMER_MODULES, *FOREIGN_MODULES}}
    for door, word in re.findall(r"`(\./plumbline|make|python -m) (\w[\w.-]*)[^`]*`", sentences):
        assert word in known[door], f"{page.name}: {door} {word}"


def modules() -> set[str]:
    """What `python -m` can run here: modules and packages with a command line."""
    paths = [
        path.relative_to(ROOT) for folder in ("harness", "simulators", "results", "analysis") for path in (ROOT / folder).rglob("*.py")
    ]
    mains = {".".join(path.parent.parts) for path in paths if path.name == "__main__.py"}
    return mains | {".".join(path.with_suffix("").parts) for path in paths if "if __name__ ==" in (ROOT / path).read_text()}


def test_the_readme_fits_on_few_screens_and_shows_before_it_explains() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 110
    assert text.index("](docs/report.png)") < text.index("make bench") < text.index("\n## One request's life")


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        todo += [(page.parent / target.partition("#")[0]).resolve() for target in links(page) if "://" not in target]
    assert set(pages()) <= reached


def test_each_finding_has_three_lines_and_a_page_of_its_own_with_its_query_or_commands() -> None:
    listed = FINDING.findall((ROOT / "docs" / "findings.md").read_text())
    assert len(listed) == (ROOT / "docs" / "findings.md").read_text().count("\n## ")
    assert sorted(listed) == sorted(f"findings/{path.name}" for path in (ROOT / "docs" / "findings").glob("*.md"))
    for name in listed:
        page = ROOT / "docs" / name
        assert any(block.language in ("sql", "sh") for block in blocks(page)), f"{name} shows no query"
        assert "../findings.md" in links(page)


def rows() -> list[list[str]]:
    """The rows of the glossary's tables, heads left out."""
    lines = [line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("word", "---")]


def test_every_word_of_the_glossary_lives_where_it_says() -> None:
    for word, meaning, where in rows():
        places = list(PLACE.finditer(where))
        assert meaning and places, word
        for place in places:
            path = ROOT / place["path"]
            assert path.exists(), f"{word}: there is no {place['path']}"
            if (name := place["name"]) is not None:
                assert re.search(DEFINED.format(name), path.read_text(), re.MULTILINE), f"{word}: {place['path']} defines no {name}"


def test_a_word_of_the_glossary_has_one_line() -> None:
    words = [row[0] for row in rows()]
    assert len(words) > 80 and len(words) == len(set(words))


def test_the_folders_of_the_readme_exist_and_so_do_the_files_to_read_first() -> None:
    table = (ROOT / "README.md").read_text().partition("| folder |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        folder, holds, first = (cell.strip() for cell in line.strip("|").split("|"))
        root = ROOT / folder.strip("`")
        assert root.is_dir() and (root / first.strip("`")).is_file(), line
        for wing in re.findall(r"`(\w+/)`", holds):
            assert (root / wing).is_dir() or wing == "runs/", f"{folder} has no {wing}"


def test_the_new_places_of_the_changelog_are_there() -> None:
    table = (ROOT / "CHANGELOG.md").read_text().partition("  | before | now |")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", line.strip(" |").split("|")[1])]
    assert len(named) > 15
    for name in named:
        *folders, last = name.rstrip(".").split(".")
        place = ROOT.joinpath(*folders)
        lies = (place / last).is_dir() or (place / f"{last}.py").is_file()
        assert lies or re.search(DEFINED.format(last), place.with_suffix(".py").read_text(), re.MULTILINE), name
