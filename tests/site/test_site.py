"""The built pages in a real browser, opened from the disk: whole, readable, and offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import DESK, PHONE

from dmf_utils.publishing.project import Project

PAGES = [
    path.stem
    for path in sorted((Path(__file__).resolve().parents[2] / "book").iterdir())
    if path.suffix in (".md", ".ipynb")
]
each_page = pytest.mark.parametrize("name", PAGES)
SHEET = 700  # pixels: a sheet of A4 between its margins
MOST_BYTES = 25e6  # of which MathJax is 11e6


@each_page
def test_formulas_are_typeset(visit: Any, quick_book: Project, name: str) -> None:
    seen = visit(name)
    source = (quick_book.html / f"{name}.html").read_text(encoding="utf-8")
    formulas = len(re.findall(r'<(?:span|div) class="math ', source))
    assert seen.count("mjx-container") >= formulas
    assert seen.count("mjx-merror, [data-mjx-error]") == 0


def test_some_page_has_formulas(visit: Any) -> None:
    assert visit("notation").count("mjx-container") > 20


@each_page
def test_nothing_leaves_the_machine(visit: Any, address: str, name: str) -> None:
    seen = visit(name)
    allowed = (f"{address}/", "data:", "blob:")
    assert seen.requests
    assert [url for url in seen.requests if not url.startswith(allowed)] == []


@each_page
def test_the_console_is_silent(visit: Any, name: str) -> None:
    assert visit(name).complaints == []


@each_page
def test_no_page_scrolls_sideways(visit: Any, name: str) -> None:
    for width, scheme in ((PHONE, "dark"), (DESK, "light")):
        seen = visit(name, width, scheme)
        assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= width


@each_page
def test_figures_can_be_read_on_a_phone(visit: Any, name: str) -> None:
    figures = visit(name, PHONE, "dark").page.locator(".bd-article figure:has(img)")
    shown = figures.evaluate_all(
        """figures => figures.map((figure) => [
            figure.querySelector("img").getBoundingClientRect().width,
            figure.querySelector("figcaption").getBoundingClientRect().width,
            figure.tabIndex,
        ])"""
    )
    for picture, caption, stop in shown:
        assert picture >= 600  # letters of some 10 pixels
        assert caption <= PHONE  # it needs no scrolling
        assert stop == 0  # the keyboard can scroll the picture


@each_page
def test_no_formula_within_a_line_is_cut_off_on_a_phone(visit: Any, name: str) -> None:
    page = visit(name, PHONE, "dark").page
    cut = page.evaluate(
        """() => {
            for (const part of document.querySelectorAll("details")) part.open = true;
            for (const part of document.querySelectorAll(".toggle-hidden"))
                part.classList.remove("toggle-hidden");
            window.dispatchEvent(new Event("resize"));
            const formulas = ".bd-article mjx-container:not([display], table *)";
            return [...document.querySelectorAll(formulas)]
                .filter((formula) => formula.getBoundingClientRect().width > 0)
                .filter((formula) => {
                    const line = formula.closest("p, li, dd, div").getBoundingClientRect();
                    return formula.getBoundingClientRect().right > line.right + 1;
                })
                .map((formula) => formula.parentElement.innerText);
        }"""
    )
    assert cut == []


@each_page
def test_images_have_alternative_texts(visit: Any, name: str) -> None:
    images = visit(name).page.locator(".bd-article img").all()
    assert [image.get_attribute("src") for image in images if not image.get_attribute("alt")] == []


@each_page
def test_every_page_says_that_it_is_quick(visit: Any, name: str) -> None:
    assert visit(name).page.locator(".admonition.dmf-quick").is_visible()


@each_page
def test_there_is_one_search_field(visit: Any, name: str) -> None:
    assert visit(name).count("button.search-button-field:visible, input[type=search]:visible") == 1


@each_page
def test_links_within_the_book_lead_somewhere(visit: Any, quick_book: Project, name: str) -> None:
    links = (
        visit(name)
        .page.locator(".bd-article a[href]")
        .evaluate_all("links => links.map(link => link.getAttribute('href'))")
    )
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = quick_book.html / (target or f"{name}.html")
        assert path.is_file(), link
        if anchor:
            assert f'id="{anchor}"' in path.read_text(encoding="utf-8"), link


@each_page
def test_a_dark_page_shows_its_figures_on_light_cards(visit: Any, name: str) -> None:
    page = visit(name, PHONE, "dark").page
    behind, cards = page.evaluate(
        """() => {
            const ground = (element) => getComputedStyle(element).backgroundColor;
            const images = document.querySelectorAll(".bd-article img");
            return [ground(document.body), [...images].map(ground)];
        }"""
    )
    assert brightness(behind) < 0.2
    assert [card for card in cards if brightness(card) < 0.9] == []


def brightness(color: str) -> float:
    """From 0 (black, or nothing at all) to 1 (white)."""
    parts = [float(part) for part in color[color.index("(") + 1 : -1].split(",")]
    opacity = parts[3] if len(parts) == 4 else 1.0
    return opacity * sum(parts[:3]) / (3 * 255)


def test_some_pages_have_figures(visit: Any) -> None:
    assert visit("intro").count(".bd-article figure img") == 1
    assert visit("completion").count(".bd-article figure img") >= 3


@each_page
def test_printed_pages_cut_nothing_off_and_have_no_navigation(visit: Any, name: str) -> None:
    page = visit(name).page
    page.emulate_media(media="print")
    page.set_viewport_size({"width": SHEET, "height": 900})
    try:
        cut = page.evaluate(
            """(width) => [...document.querySelectorAll(".bd-article *")]
                .filter((e) => e.checkVisibility() && !e.closest(".headerlink, svg")
                    && !e.parentElement.closest("mjx-container"))
                .filter((e) => {
                    const style = getComputedStyle(e);
                    return e.getBoundingClientRect().right > width + 1
                        || (!e.matches("span.math, mjx-container") && style.overflowX !== "visible"
                            && e.scrollWidth > e.clientWidth + 1);
                })
                .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)""",
            SHEET,
        )
        assert cut == []
        for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
            assert not page.locator(part).first.is_visible(), part
    finally:
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": DESK, "height": 900})


def test_what_is_opened_for_printing_is_there_at_once(visit: Any) -> None:
    page = visit("claims").page
    seen = "() => [...document.querySelectorAll('details.hide .cell_input')].map((cell) => "
    seen += "getComputedStyle(cell).opacity)"
    opened = "(open) => document.querySelectorAll('details.hide').forEach((box) => "
    opened += "{ box.open = open; })"
    page.emulate_media(media="print")
    try:
        page.evaluate(opened, True)
        shown = page.evaluate(seen)
    finally:
        page.evaluate(opened, False)
        page.emulate_media(media="screen")
    assert shown
    assert set(shown) == {"1"}


def test_search_finds_a_page_without_a_server(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/intro.html")
    page.locator("button.search-button-field").click()
    page.keyboard.type("entropy")
    page.keyboard.press("Enter")
    results = page.locator("#search-results ul.search li a")
    # The page lists what it finds one by one.
    page.locator("#search-results ul.search li a[href*='glossary.html']").first.wait_for()
    page.goto(f"{address}/search.html?q=zzzyyyxxx")
    page.get_by_text("did not match any documents").wait_for()
    assert results.count() == 0
    page.close()


def test_the_site_is_small(quick_book: Project) -> None:
    files = [path for path in quick_book.html.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert not [path for path in files if path.suffix == ".map"]


def test_the_opening_picture_is_the_one_the_build_computed(quick_book: Project) -> None:
    computed = (quick_book.build / "figures" / "fig-completion-entries.png").read_bytes()
    (shown,) = (quick_book.html / "_images").glob("fig-completion-entries*.png")
    assert shown.read_bytes() == computed


def test_the_ledger_comes_with_what_failed_first(visit: Any) -> None:
    headings = visit("claims").page.locator(".bd-article h2").all_inner_texts()
    order = ["Not reproduced", "Reproduced in part", "Not run", "Reproduced"]
    assert [text.rstrip("#\n") for text in headings][-4:] == order


def test_every_measured_row_of_the_ledger_leads_to_its_cell(visit: Any) -> None:
    rows = visit("claims").page.locator(".dmf-claim:not(.dmf-not-run)")
    links = rows.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('a')].map(a => a.getAttribute('href')))"
    )
    assert len(links) > 30
    for found in links:
        cell, section, *figure = found
        assert cell == section
        assert "#claim-" in cell
        assert all("#fig-" in link for link in figure)
    assert sum(len(found) > 2 for found in links) > 10  # some stand by a figure


def test_every_box_is_in_the_index_of_theorems(visit: Any, quick_book: Project) -> None:
    boxes = set()
    for path in quick_book.html.glob("*.html"):
        for label in re.findall(
            r'<div class="proof \w+ admonition" id="([^"]+)"', path.read_text(encoding="utf-8")
        ):
            boxes.add(f"{path.name}#{label}")
    links = (
        visit("index_of_theorems")
        .page.locator(".bd-article td:first-child a")
        .evaluate_all("links => links.map(link => link.getAttribute('href'))")
    )
    assert len(links) == len(set(links)) > 10
    assert set(links) == boxes


def test_the_status_names_every_chapter_with_its_time(visit: Any, quick_book: Project) -> None:
    rows = visit("status").page.locator(".bd-article table").first.locator("tbody tr")
    linked = rows.evaluate_all("rows => rows.map(row => row.querySelector('a')?.pathname)")
    names = [Path(path).stem for path in linked]
    assert sorted(names) == sorted(quick_book.chapters())
    assert all(re.search(r"\b\d+:\d\d\b", text) for text in rows.all_inner_texts())
    assert "GiB of memory" in visit("status").page.locator(".bd-article").inner_text()


def test_the_map_leads_to_every_chapter(visit: Any, quick_book: Project) -> None:
    table = visit("intro").page.locator(".bd-article table").first
    links = table.locator("a").evaluate_all("links => links.map(link => link.pathname)")
    assert {Path(link).stem for link in links} == set(quick_book.chapters()) - {"claims"}
