"""Sphinx extension: pages that a keyboard and a screen reader find their way through.

The theme and its extensions leave some markup that is not valid or that hinders: repeated ids in
theorem boxes, header cells without words, roles that do not belong together, and every formula as
a stop of the tab key. This extension mends it in the pages as they are written.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

_MENDED: list[tuple[re.Pattern[str], str]] = [
    # Boxes: each keeps its id; its title repeats it, and all contents of a kind share another.
    (re.compile(r'(<p class="admonition-title") id="[^"]*"'), r"\1"),
    (re.compile(r'(<section class="[\w-]+-content") id="proof-content"'), r"\1"),
    (re.compile(r'(<div class="proof [\w -]+") id="proof"'), r"\1"),
    (re.compile(r'<section id="(?:exercise|solution)-content">'), "<section>"),
    # The corner of a table has nothing to say.
    (re.compile(r"<th( [^>]*)?>\s*</th>"), r"<td\1></td>"),
    # Citations: a list whose children are not items, and a role that no longer exists.
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),
    (re.compile(r'(<div class="citation"[^>]*) role="doc-biblioentry"'), r"\1"),
    # A sign after a formula does not begin the next line.
    (
        re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)\]]+)'),
        r'<span class="dmf-together">\1\2</span>',
    ),
    # The title and the search field above the table of contents belong to a landmark.
    (
        re.compile(r'<div class="sidebar-primary-items__start sidebar-primary__section">'),
        '<div class="sidebar-primary-items__start sidebar-primary__section" '
        'role="region" aria-label="Book">',
    ),
]


def mend(page: str) -> str:
    """The page's HTML with what this module's first lines say put right."""
    for found, put in _MENDED:
        page = found.sub(put, page)
    return page


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).glob("**/*.html"):
        if "_static" not in path.relative_to(app.outdir).parts:
            path.write_text(mend(path.read_text(encoding="utf-8")), encoding="utf-8")


def leave_formulas_out_of_the_tab_order(app: Sphinx, config: Config) -> None:
    """Formulas that overflow become stops again, by ``_static/scrolling.js``."""
    settings = dict(config.mathjax3_config or {})
    options = dict(settings.get("options", {}))
    options["menuOptions"] = {"settings": {"inTabOrder": False}}
    config.mathjax3_config = settings | {"options": options}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", leave_formulas_out_of_the_tab_order, priority=900)
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
