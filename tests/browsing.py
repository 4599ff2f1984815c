"""A page of the built book, opened in headless Chromium."""

from __future__ import annotations

from typing import Any

PHONE, DESK = 390, 1400  # widths in pixels


def open_tab(browser: Any, width: int, scheme: str) -> Any:
    """A place for one page after another, each at this width and in this colour scheme.

    A browser takes half a second to start one, and as long again until its scripts are quick.
    """
    return browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)


class Visit:
    """One page opened in a tab, with what it asked for and complained about."""

    def __init__(self, tab: Any, address: str, name: str) -> None:
        self.page = tab
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._listeners = {
            "request": lambda request: self.requests.append(request.url),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "requestfailed": lambda request: self.complaints.append(request.url),
            "console": self._listen,
        }
        for event, listener in self._listeners.items():
            tab.on(event, listener)
        tab.goto(f"{address}/{name}.html", wait_until="networkidle")
        tab.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")

    def leave(self) -> None:
        """Make way for another page, which finds nothing of this one."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.page.goto("about:blank")

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())
