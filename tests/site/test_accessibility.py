"""Every page by axe-core and by the keyboard, in light and dark, at a desk and on a phone."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browsing import DESK, PHONE, Visit, open_tab

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = [path.stem for path in sorted(BOOK.iterdir()) if path.suffix in (".md", ".ipynb")]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
GRAVE = ("serious", "critical")
each_page = pytest.mark.parametrize("name", [*PAGES, "search"])
each_reader = pytest.mark.parametrize(
    ("width", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"]
)


# Code has thousands of words in a handful of colours, and axe-core takes milliseconds for each. So
# of words that look alike on the same ground one is looked at, and the others are text without a
# colour of their own. A formula is looked at as a line of text: what is in it is left to MathJax.
SIMPLIFY = """() => {
    const look = (element) => {
        const style = getComputedStyle(element);
        return [style.color, style.backgroundColor, style.backgroundImage, style.opacity,
            style.fontSize, style.fontWeight, style.textShadow].join(" ");
    };
    const ground = (element) => element ? look(element) + ground(element.parentElement) : "";
    const seen = new Set();
    window.swapped = [];
    for (const block of document.querySelectorAll(".highlight pre")) {
        const simple = block.cloneNode(true);
        const around = ground(block);
        const copies = simple.querySelectorAll("span");
        block.querySelectorAll("span").forEach((word, i) => {
            if (word.children.length || word.getAttributeNames().some((name) => name !== "class")) {
                return;
            }
            const inner = word.parentElement === block ? "" : look(word.parentElement);
            const key = [look(word), inner, around].join(" on ");
            if (seen.has(key)) {
                copies[i].replaceWith(word.textContent);
            }
            seen.add(key);
        });
        simple.normalize();
        swapped.push([block, simple]);
    }
    for (const formula of document.querySelectorAll("mjx-container")) {
        const {width, height} = formula.getBoundingClientRect();
        const line = document.createElement("span");
        line.textContent = formula.querySelector("mjx-assistive-mml").textContent;
        line.style.cssText = `display: inline-block; overflow: hidden; white-space: nowrap;
            width: ${width}px; height: ${height}px`;
        swapped.push([formula, line]);
    }
    swapped.forEach(([element, simple]) => element.replaceWith(simple));
}"""
RESTORE = "() => swapped.forEach(([element, simple]) => simple.replaceWith(element))"


def findings(visited: Visit) -> list[str]:
    """What axe-core calls serious or critical."""
    page = visited.page
    said = len(visited.requests), len(visited.complaints)
    page.evaluate(SIMPLIFY)
    page.evaluate(AXE)
    result = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    page.evaluate(RESTORE)
    # axe-core reads the style sheets itself: that is not the page's doing.
    del visited.requests[said[0] :], visited.complaints[said[1] :]
    assert len(result["passes"]) > 20  # it did look
    return [
        f"{found['impact']}: {found['id']}: {node['html'][:200]}"
        for found in result["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


@each_reader
@each_page
def test_axe_has_no_serious_finding(visit: Any, name: str, width: int, scheme: str) -> None:
    assert findings(visit(name, width, scheme)) == []


def test_axe_finds_what_is_wrong(browser: Any, address: str) -> None:
    visited = Visit(open_tab(browser, DESK, "light"), address, "intro")
    visited.page.evaluate(
        """() => {
            const article = document.querySelector(".bd-article");
            const white = "background: #fff; color:";
            article.insertAdjacentHTML("beforeend", `<img src='x.png'>
                <p tabindex='3'>out of order</p> <p style='${white} #ddd'>pale</p>
                <style>.faint {color: #ddd !important}</style>
                <div class='highlight' style='${white} #000'><pre style='${white} #000'>
                <span class='n'>dark</span> <span class='n'>dark</span>
                <span class='n faint'>token</span> <span class='n faint'>token</span>
                <i class='faint'><span class='n'>dark</span></i></pre></div>
                <div class='highlight' style='background: #444'><pre style='background: #444'>
                <span style='color: #111' class='n'>night</span></pre></div>
                <p style='${white} #eee'><mjx-container style='display: inline-block;
                    width: 90px; height: 20px'><mjx-assistive-mml>formula</mjx-assistive-mml>
                </mjx-container></p>`);
        }"""
    )
    # Of the page's own part: the theme's bars above it settle in their own time.
    main = "() => document.querySelector('main').outerHTML"
    before = visited.page.evaluate(main)
    found = findings(visited)
    assert {line.split(": ")[1] for line in found} == {"image-alt", "color-contrast", "tabindex"}
    pale = " ".join(line for line in found if ": color-contrast: " in line)
    assert [pale.count(f">{word}") for word in ("pale", "token", "night", "formula")] == [1] * 4
    assert "dark" not in pale
    assert visited.page.evaluate(main) == before
    visited.page.close()


@each_page
def test_headings_go_down_one_level_at_a_time(visit: Any, name: str) -> None:
    levels = visit(name).page.evaluate(
        """() => [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")]
            .filter((heading) => heading.checkVisibility())
            .map((heading) => Number(heading.tagName[1]))"""
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


@each_page
def test_ids_are_unique(visit: Any, name: str) -> None:
    ids = visit(name).page.evaluate(
        """() => [...document.querySelectorAll("main [id]")]
            .filter((element) => !element.closest("mjx-container, svg"))
            .map((element) => element.id)"""
    )
    assert sorted({id for id in ids if ids.count(id) > 1}) == []


@each_page
def test_the_tab_key_follows_the_page(visit: Any, name: str) -> None:
    page = visit(name).page
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
