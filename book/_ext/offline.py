"""Sphinx extension: pages that ask the network for nothing.

Jupyter Book's pages load MathJax and Thebe from two public servers. This extension copies MathJax
out of an installed package beside the pages, points Sphinx to that copy, takes Thebe's event
handlers away, and leaves out what only a developer's tools would read.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

PACKAGE = "sphinx-mathjax-offline"
# The program, its fonts, TeX packages loaded on demand, the context menu, screen reader support.
PARTS = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "ui", "a11y")


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    config.mathjax_path = "mathjax/tex-chtml.js"
    # Also on pages whose only formulas stand in outputs of cells, which Sphinx does not look into.
    app.set_html_assets_policy("always")


def drop_thebe(app: Sphinx, config: Config) -> None:
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__.split(".")[0] == "sphinx_thebe":
                app.disconnect(listener.id)
    style = "sphinx-thebe.css"  # its file is copied by one of these handlers
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != style]


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    source = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/static/mathjax")))
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / part, target / part)


def drop_source_maps(app: Sphinx, exception: Exception | None) -> None:
    """A sixth of the site is the theme's maps from packed scripts back to their sources."""
    if exception is None and app.builder.format == "html":
        for path in (Path(app.outdir) / "_static").rglob("*.map"):
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", use_local_mathjax, priority=900)
    app.connect("config-inited", drop_thebe, priority=900)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_source_maps)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
