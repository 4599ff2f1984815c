"""Sphinx extension: figures that move in the page, by plain scripts that only their pages load.

A figure is ``_interactive/NAME.js``. A chapter shows it where it writes

    ```{interactive} NAME
    :title: What it is, for a screen reader

    What stands there without scripts: where in the page the same is seen as a picture.
    ```

``figures.js`` and ``figures.css`` hold what figures share. A first line ``// needs: OTHER.js``
names scripts that a figure builds on.
"""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = "_interactive"
SHARED = "figures"


class interactive_figure(nodes.General, nodes.Element):
    """A figure that moves; its children are what stands there without scripts."""


def scripts(folder: Path, name: str) -> list[str]:
    """The files of a figure in the order in which a page loads them."""
    first = (folder / f"{name}.js").read_text(encoding="utf-8").split("\n", 1)[0]
    needed = re.fullmatch(r"// needs: (.+)", first)
    return [f"{SHARED}.js", *(needed[1].split(", ") if needed else []), f"{name}.js"]


def opening(name: str, title: str) -> str:
    """The HTML before what stands there without scripts."""
    return (
        f'<section class="dmf-figure" id="interactive-{name}" data-figure="{name}" '
        f'aria-label="Interactive figure: {escape(title)}"><noscript>'
    )


CLOSING = "</noscript></section>\n"


class Interactive(SphinxDirective):
    """Places a figure."""

    required_arguments = 1
    has_content = True
    option_spec = {"title": directives.unchanged_required}  # noqa: RUF012, as docutils has it

    def run(self) -> list[nodes.Node]:
        name, folder = self.arguments[0], Path(self.env.srcdir) / FOLDER
        if not (folder / f"{name}.js").is_file():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.js")))
            raise self.error(f"interactive figure {name!r}: unknown, choose one of {known}")
        if "title" not in self.options:
            raise self.error(f"interactive figure {name!r}: has no title; give it :title: …")
        self.assert_has_content()  # or nothing would stand there without scripts
        figure = interactive_figure(name=name, title=self.options["title"])
        self.state.nested_parse(self.content, self.content_offset, figure)
        return [figure]


def _open(translator: Any, node: interactive_figure) -> None:
    translator.body.append(opening(node["name"], node["title"]))


def _close(translator: Any, node: interactive_figure) -> None:
    translator.body.append(CLOSING)


def copy_scripts(app: Sphinx) -> None:
    """Beside the static files, where no page loads them by itself."""
    source = Path(app.srcdir) / FOLDER
    if app.builder.format == "html" and source.is_dir():
        shutil.copytree(source, Path(app.outdir) / "_static" / "interactive", dirs_exist_ok=True)


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Only pages with a figure load scripts, and each script once."""
    shown = list(doctree.findall(interactive_figure)) if doctree else []
    if not shown:
        return
    app.add_css_file(f"interactive/{SHARED}.css")
    folder = Path(app.srcdir) / FOLDER
    needed = [script for node in shown for script in scripts(folder, node["name"])]
    for order, script in enumerate(dict.fromkeys(needed)):
        app.add_js_file(f"interactive/{script}", priority=800 + order, defer="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(interactive_figure, html=(_open, _close))
    app.add_directive("interactive", Interactive)
    app.connect("builder-inited", copy_scripts)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
