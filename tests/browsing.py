"""A page of the built book, opened in headless Chromium."""

from __future__ import annotations

from typing import Any

PHONE, DESK = 390, 1400  # widths in pixels


class Visit:
    """One page opened in the browser, with what it asked for and complained about."""

    def __init__(self, browser: Any, address: str, name: str, width: int, scheme: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
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
