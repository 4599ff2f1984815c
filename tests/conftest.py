"""Shared by the tests of the book: its quick build, made once, and small books of their own."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that spin slow each other

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import nbformat
import pytest
from browsing import DESK, Visit, open_tab
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.project import Project

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group what shares something built or opened, and order it so that no process waits long.

    One process builds the book first; the others compute meanwhile, and all share its pages at the
    end, page by page.
    """
    places = {}
    for item in items:
        used = getattr(item, "fixturenames", ())
        group, place = None, 2
        if "quick_book" in used and "browser" in used:
            page = item.callspec.params.get("name") if hasattr(item, "callspec") else None
            group, place = f"page {page or ''}", 3
        elif "quick_book" in used:
            group, place = "quick_book", 0
        elif "class_book" in used:
            group, place = "class_book", 1
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
            # pytest-xdist 3.8 writes the group into a field that pytest 9.2 no longer reads, and
            # the mark alone does nothing: every process would open every page.
            if config.getoption("loadgroup", False) and hasattr(item, "_id"):
                item._id = type(item._id).parse(f"{item.nodeid}@{group}")
        places[item] = (place, group or "")
    items.sort(key=places.__getitem__)


@pytest.fixture(scope="session")
def quick_book(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole book at its quick size, built away from the tree, with warnings as errors.

    The first process that asks for it builds it, and the others wait for that.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "quick_book"
    project = Project(root, quick=True)
    with filelock.FileLock(shared / "quick_book.lock"):
        built = root / "built"
        if not built.exists():
            root.mkdir(exist_ok=True)
            _copy_shell(root)
            shutil.copytree(ROOT / "book", root / "book", dirs_exist_ok=True)
            build_book(project)
            built.touch()
    return project


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, one for all tests that look at pages."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address(quick_book: Project) -> str:
    """Pages are opened as files: there is no server that could answer a request."""
    return quick_book.html.as_uri()


@pytest.fixture(scope="session")
def visit(browser: Any, address: str) -> Callable[..., Visit]:
    """Open a page once at each width and in each colour scheme, for the tests that follow.

    Each width and scheme has a tab of its own, where the next page takes the place of the last one.
    """
    visits: dict[tuple[int, str], tuple[str, Visit]] = {}

    def open_page(name: str, width: int = DESK, scheme: str = "light") -> Visit:
        last, visited = visits.pop((width, scheme), (None, None))
        if visited is None or last != name:
            if visited is not None:
                visited.leave()
                visited.page.emulate_media(media="screen", color_scheme=scheme)
            tab = open_tab(browser, width, scheme) if visited is None else visited.page
            visited = Visit(tab, address, name)
        visits[width, scheme] = name, visited
        return visited

    return open_page


@pytest.fixture
def make_book(tmp_path: Path) -> Callable[..., Project]:
    """A function that writes a book of one chapter from the sources of its cells."""

    def make(
        *cells: str,
        parameters: str = "",
        ledger: str = "",
        quick: str = "",
        text: str = "A chapter.",
    ) -> Project:
        _copy_shell(tmp_path)
        book = tmp_path / "book"
        book.mkdir(exist_ok=True)
        (book / "_toc.yml").write_text("format: jb-book\nroot: intro\nchapters:\n- file: small\n")
        (book / "intro.md").write_text("# A small book\n\nWith one chapter.\n")
        (book / "references.bib").write_text("")
        (book / "claims.yml").write_text(ledger)
        notebook = new_notebook(metadata=KERNEL)
        notebook.cells.append(new_markdown_cell(f"# Small\n\n{text}", id="title"))
        if parameters:
            cell = new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]})
            notebook.cells.append(cell)
        for number, source in enumerate(cells):
            notebook.cells.append(new_code_cell(source, id=f"cell-{number}"))
        nbformat.write(notebook, book / "small.ipynb")
        if quick:
            (book / "quick").mkdir(exist_ok=True)
            (book / "quick" / "small.yml").write_text(quick)
        return Project(tmp_path)

    return make


def _copy_shell(root: Path) -> None:
    """What a book needs besides its chapters."""
    for name in ("_config.yml", "requirements.txt"):
        shutil.copy(ROOT / name, root / name)
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, root / "book" / name, dirs_exist_ok=True)
