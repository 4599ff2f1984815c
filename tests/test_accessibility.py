"""Every page by axe-core and by the keyboard, in light and dark, at a desk and on a phone."""

from __future__ import annotations

import functools
import itertools
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from dmf_utils.publishing.project import Project

BOOK = Path(__file__).resolve().parents[1] / "book"
PAGES = [path.stem for path in sorted(BOOK.iterdir()) if path.suffix in (".md", ".ipynb")]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
GRAVE = ("serious", "critical")
each_page = pytest.mark.parametrize("name", [*PAGES, "search"])
each_reader = pytest.mark.parametrize(
    ("width", "scheme"), [(1400, "light"), (390, "dark")], ids=["desk-light", "phone-dark"]
)


def open_page(browser: Any, book: Project, name: str, width: int, scheme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(f"{book.html.as_uri()}/{name}.html", wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")
    return page


@pytest.fixture(scope="module")
def opened(browser: Any, quick_book: Project) -> Any:
    """Open a page of the built book once at each width and in each colour scheme."""

    @functools.cache
    def once(name: str, width: int, scheme: str) -> Any:
        return open_page(browser, quick_book, name, width, scheme)

    return once


def findings(page: Any) -> list[str]:
    """What axe-core calls serious or critical; formulas are left to MathJax, for they are many."""
    page.evaluate(AXE)
    result = page.evaluate(
        """() => axe.run({exclude: [["mjx-container"]]}, {resultTypes: ["violations"]})"""
    )
    assert len(result["passes"]) > 20  # it did look
    return [
        f"{found['impact']}: {found['id']}: {node['html'][:200]}"
        for found in result["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


@each_reader
@each_page
def test_axe_has_no_serious_finding(opened: Any, name: str, width: int, scheme: str) -> None:
    assert findings(opened(name, width, scheme)) == []


def test_axe_finds_what_is_wrong(browser: Any, quick_book: Project) -> None:
    page = open_page(browser, quick_book, "intro", 1400, "light")
    page.evaluate(
        """() => {
            const article = document.querySelector(".bd-article");
            article.insertAdjacentHTML("beforeend", "<img src='x.png'><p style='color: #ddd;"
                + "background: #fff'>pale</p><p tabindex='3'>out of order</p>");
        }"""
    )
    found = {line.split(": ")[1] for line in findings(page)}
    page.close()
    assert found == {"image-alt", "color-contrast", "tabindex"}


@each_page
def test_headings_go_down_one_level_at_a_time(opened: Any, name: str) -> None:
    levels = opened(name, 1400, "light").evaluate(
        """() => [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")]
            .filter((heading) => heading.checkVisibility())
            .map((heading) => Number(heading.tagName[1]))"""
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


@each_page
def test_ids_are_unique(opened: Any, name: str) -> None:
    ids = opened(name, 1400, "light").evaluate(
        """() => [...document.querySelectorAll("main [id]")]
            .filter((element) => !element.closest("mjx-container, svg"))
            .map((element) => element.id)"""
    )
    assert sorted({id for id in ids if ids.count(id) > 1}) == []


@each_page
def test_the_tab_key_follows_the_page(opened: Any, name: str) -> None:
    page = opened(name, 1400, "light")
    page.keyboard.press("Tab")
    first = page.evaluate("() => [document.activeElement.textContent.trim(), window.scrollY]")
    assert first == ["Skip to main content", 0]
    page.keyboard.press("Enter")
    page.evaluate("() => { window.stops = []; }")
    for _ in range(25):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement === document.body"):
            break  # once around
        page.evaluate("() => { window.stops.push(document.activeElement); }")
    in_order, seen, in_formulas = page.evaluate(
        """() => [
            stops.every((stop, i) => i === 0
                || stops[i - 1].compareDocumentPosition(stop) & Node.DOCUMENT_POSITION_FOLLOWING),
            stops.every((stop) => stop.getBoundingClientRect().width > 0),
            stops.filter((stop) => stop.matches("mjx-container")
                && stop.scrollWidth <= stop.clientWidth + 1).length,
        ]"""
    )
    assert in_order
    assert seen
    assert in_formulas == 0  # formulas that fit are no stops
