"""Print built pages to PDF with Chromium, which typesets their formulas as a reader sees them."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dmf_utils._support.errors import InputError

__all__ = ["PAPERS", "PrintError", "Sheet", "find_chromium", "print_sheets"]

VARIABLE = "DMF_CHROMIUM"
STYLE = Path(__file__).with_name("handout.css")
PAPERS = {"": "A4", "-letter": "Letter"}
"""The papers, by what they add to a file's name."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/mnt/c/Program Files/Google/Chrome/Application/chrome.exe",
)
_MARGINS = {"top": "21mm", "bottom": "19mm", "left": "18mm", "right": "18mm"}
_ROOM = {"A4": {"width": 657, "height": 970}, "Letter": {"width": 679, "height": 904}}  # 1/96 inch
_SECONDS_A_PAGE = 120
_LINE = (
    '<div style="font: 8pt/1.3 sans-serif; color: #333; width: 100%; margin: 0 18mm; display: flex;'
    ' justify-content: space-between; gap: 6mm; -webkit-print-color-adjust: exact">'
    '<span style="overflow: hidden; text-overflow: ellipsis; white-space: nowrap">{left}</span>'
    '<span style="white-space: nowrap">{right}</span></div>'
)
_NUMBERS = 'page <span class="pageNumber"></span> of <span class="totalPages"></span>'

# In the page, before it is printed: everything open, nothing that leads to a file of this machine.
_PREPARE = """
async ([course, name]) => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.mode = "light";
  document.querySelectorAll("details").forEach(box => { box.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach(box => box.classList.remove("toggle-hidden"));
  document.querySelectorAll("img").forEach(image => { image.loading = "eager"; });
  document.querySelectorAll("a[href]").forEach(link => {
    if (!/^(#|https?:|mailto:)/.test(link.getAttribute("href"))) link.removeAttribute("href");
  });
  const article = document.querySelector("article.bd-article");
  for (const [kind, text] of [["dmf-name", name], ["dmf-course", course]]) {
    if (text) {
      const line = document.createElement("p");
      line.className = kind;
      line.textContent = text;
      document.querySelector(".bd-article-container").prepend(line);
    }
  }
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  document.querySelectorAll("table").forEach(table => { // else the whole sheet would be shrunk
    const room = table.parentElement.clientWidth;
    if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
  });
  document.querySelectorAll(".cell_input, .cell_output, .admonition, table").forEach(box => {
    if (box.offsetHeight < 240) box.style.setProperty("break-inside", "avoid", "important");
  });
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  return article.innerHTML;
}
"""


class PrintError(RuntimeError):
    """Chromium did not print a page."""


@dataclass(frozen=True)
class Sheet:
    """One page to print.

    Attributes
    ----------
    page
        The HTML file.
    target
        The PDF file.
    paper
        ``A4`` or ``Letter``.
    title
        What stands at the head of every sheet, and is the document's title.
    version
        ``student`` or ``instructor``.
    course
        The course line; empty for none.
    """

    page: Path
    target: Path
    paper: str
    title: str
    version: str
    course: str = ""


def find_chromium() -> str | None:
    """Where Chromium, or Chrome, is on this machine; None if it is not.

    Raises
    ------
    InputError
        If the environment variable ``DMF_CHROMIUM`` names no program.
    """
    if named := os.environ.get(VARIABLE):
        if found := shutil.which(named):
            return found
        raise InputError(f"{VARIABLE}={named}: no such program; name Chromium's, or unset it")
    return next(filter(None, map(shutil.which, (*_NAMES, *_PLACES))), None)


def print_sheets(
    chromium: str, sheets: list[Sheet], check: Callable[[Sheet, str], None] | None = None
) -> list[Path]:
    """Print pages, each to its PDF file.

    Parameters
    ----------
    chromium
        The browser.
    sheets
        What to print.
    check
        Called with each sheet and the HTML that is about to be printed; what it raises ends the
        work before that file is written.

    Returns
    -------
    list of Path
        The PDF files.

    Raises
    ------
    PrintError
        If the browser fails.
    """
    # In a thread of its own: the driver's event loop must not meet one that runs already, such as
    # a notebook's.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: list(_print(chromium, sheets, check))).result()


def _print(
    chromium: str, sheets: list[Sheet], check: Callable[[Sheet, str], None] | None
) -> Iterator[Path]:
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=chromium, args=["--disable-dev-shm-usage"]
            )
            page = browser.new_page()  # one for all: a second is half as quick as one that is warm
            page.set_default_timeout(_SECONDS_A_PAGE * 1000)
            page.emulate_media(media="print", color_scheme="light")
            for sheet in sheets:
                page.set_viewport_size(_ROOM[sheet.paper])
                page.goto(sheet.page.resolve().as_uri())
                page.add_style_tag(path=STYLE)
                name = "Name:" if sheet.version == "student" else ""
                markup = page.evaluate(_PREPARE, [sheet.course, name])
                if check:
                    check(sheet, markup)
                page.evaluate("title => { document.title = title; }", _title(sheet))
                page.pdf(
                    path=sheet.target,
                    format=sheet.paper,
                    margin=_MARGINS,
                    print_background=True,
                    outline=True,
                    tagged=True,
                    display_header_footer=True,
                    header_template=_line(sheet.course, sheet.title),
                    footer_template=_line(_version(sheet), None),
                )
                yield sheet.target
            browser.close()
    except Error as error:
        raise PrintError(f"{chromium}: could not print: {error}") from error


def _title(sheet: Sheet) -> str:
    return " – ".join(filter(None, [sheet.title, _version(sheet), sheet.course]))


def _version(sheet: Sheet) -> str:
    return "Student version" if sheet.version == "student" else "Instructor’s version"


def _line(left: str, right: str | None) -> str:
    """A head or foot; without a right part the number of the sheet stands there."""
    end = _NUMBERS if right is None else html.escape(right)
    return _LINE.format(left=html.escape(left), right=end)
