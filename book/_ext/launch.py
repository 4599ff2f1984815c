"""Sphinx extension: links to Binder and Colab, once the repository has a public address.

The theme makes these links. While ``repository: url`` in ``_config.yml`` is empty it would still
make them, to nowhere; and the ledger's page, which only shows what a build measured, needs none.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

GENERATED = ("claims",)


def none_without_address(app: Sphinx, config: Config) -> None:
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options["launch_buttons"] = {}


def none_where_nothing_runs(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: object
) -> None:
    if page in GENERATED and "header_buttons" in context:
        buttons = context["header_buttons"]
        buttons[:] = [button for button in buttons if button.get("label") != "launch-buttons"]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", none_without_address, priority=900)
    app.connect("html-page-context", none_where_nothing_runs, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
