"""Figures that move, opened outside the book: that is quick, and needs no chapter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
FOLDER = BOOK / "_interactive"
sys.path.insert(0, str(BOOK / "_ext"))


@pytest.fixture(scope="module")
def open_alone(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Open a figure from the disk, as a reader does, in a page with nothing else."""
    import interactive

    folder = tmp_path_factory.mktemp("figures")

    def open_figure(name: str, **context: Any) -> Any:
        scripts = [
            f'<script defer src="{(FOLDER / script).as_uri()}"></script>'
            for script in interactive.scripts(FOLDER, name)
        ]
        path = folder / f"{name}.html"
        path.write_text(
            "<!DOCTYPE html><html lang='en'><meta charset='utf-8'>"
            f'<link rel="stylesheet" href="{(FOLDER / "figures.css").as_uri()}">'
            f"<title>{name}</title>{''.join(scripts)}<body><main><h1>{name}</h1>"
            f"{interactive.opening(name, 'a title')}No scripts.{interactive.CLOSING}</main></body>",
            encoding="utf-8",
        )
        size = {"width": 800, "height": 900}
        page = browser.new_context(viewport=size, **context).new_page()
        page.goto(path.as_uri())
        return page

    return open_figure
