"""The built pages in a real browser: readable, whole, and asking the network for nothing."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmf_utils.publishing.project import Project

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PAGES = [
    path.stem
    for path in sorted((Path(__file__).resolve().parents[1] / "book").iterdir())
    if path.suffix in (".md", ".ipynb")
]
each_page = pytest.mark.parametrize("name", PAGES)


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *details: Any) -> None:
        """Keep the test's output free of requests."""


@pytest.fixture(scope="session")
def address(quick_book: Project) -> Iterator[str]:
    handler = functools.partial(_QuietHandler, directory=str(quick_book.html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


class Visit:
    """One page opened in the browser, with what it asked for and complained about."""

    def __init__(self, browser: Any, address: str, name: str, width: int) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("console", self._listen)
        self.page.goto(f"{address}/{name}.html", wait_until="networkidle")
        self.page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())


@pytest.fixture(scope="session")
def visit(browser: Any, address: str) -> Any:
    """Open a page once at each width, and keep it for all tests."""

    @functools.cache
    def open_page(name: str, width: int = 1400) -> Visit:
        return Visit(browser, address, name, width)

    return open_page


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
def test_a_phone_shows_the_page_without_sideways_scroll(visit: Any, name: str) -> None:
    seen = visit(name, 390)
    width = seen.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390


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
