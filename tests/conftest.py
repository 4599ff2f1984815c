"""Shared by the tests of the book: its quick build, made once, and small books of their own."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that spin slow each other

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils.publishing.book import build_book
from dmf_utils.publishing.project import Project

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is built once, one process builds: the tests that share it stay together."""
    for item in items:
        for shared in ("quick_book", "class_book"):
            if shared in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(shared))
                break


@pytest.fixture(scope="session")
def quick_book(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole book at its quick size, built away from the tree, with warnings as errors."""
    root = tmp_path_factory.mktemp("book")
    _copy_shell(root)
    shutil.copytree(ROOT / "book", root / "book", dirs_exist_ok=True)
    project = Project(root, quick=True)
    build_book(project)
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
