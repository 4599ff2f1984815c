"""Slides of the lectures: figures, statements and numbers out of the executed chapters."""

from __future__ import annotations

import ast
import base64
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path

from matplotlib.image import imread, imsave
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils.publishing import pages
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import LEDGER_CHAPTER, Chapter, read_chapters
from dmf_utils.publishing.lectures import Lecture, load
from dmf_utils.publishing.project import Project
from dmf_utils.teaching import pdf

__all__ = ["lecture_notebook", "make_slides"]

_TEMPLATES = Path(__file__).with_name("templates")
_REVEAL = ("sphinx-revealjs", "sphinx_revealjs/_static/revealjs/dist")
_MATHJAX = ("sphinx-mathjax-offline", "sphinx-mathjax-offline/static/mathjax")
_GLUE = re.compile(r"\{glue:text\}`([\w-]+)(?::([^`]*))?`")
_ROLE = re.compile(r"\{[\w:]+\}`([^`<]*?) *(?:<[^>]*>)?`")
_SECONDS_A_LECTURE = 120
_HOW_TO_PRINT = "no PDF: there is no Chromium here; install it, or name it in DMF_CHROMIUM"


def make_slides(project: Project) -> list[Path]:
    """Make each lecture's slides, as one file of HTML and as a PDF.

    Parameters
    ----------
    project
        Whose ``book/lectures.yml``, and at which size; the book is built first if need be.

    Returns
    -------
    list of Path
        The files, in ``slides/`` below the build folder; without Chromium there are no PDFs.

    Raises
    ------
    InputError
        If the plan names what no chapter has.
    PrintError
        If Chromium fails.
    """
    plan = load(project)
    chromium = pdf.find_chromium()
    build_book(project)
    book = {n: c for n, c in read_chapters(project).items() if n != LEDGER_CHAPTER}
    folder = files.folder(project.build / "slides")
    shows = [lecture for lecture in plan.lectures if lecture.slides]
    notebooks = [lecture_notebook(lecture, book) for lecture in shows]  # all before any is written
    made = []
    for number, (lecture, notebook) in enumerate(zip(shows, notebooks, strict=True), 1):
        path = folder / f"lecture-{number}.html"
        content = _html(notebook, lecture.title, is_quick=project.quick).encode()
        files.write_whole(path, lambda file, content=content: file.write(content))
        made.append(path)
    if chromium is None:
        print(_HOW_TO_PRINT)
        return made
    with ThreadPoolExecutor(max_workers=1) as thread:  # as `pdf.print_sheets` says
        return made + thread.submit(lambda: list(_print(chromium, made))).result()


def lecture_notebook(lecture: Lecture, book: dict[str, Chapter]) -> NotebookNode:
    """A lecture as a notebook whose cells are tagged as Jupyter tags slides.

    Parameters
    ----------
    lecture
        Its slides name figures by their cells' names and statements by their labels.
    book
        The executed chapters by name.

    Raises
    ------
    InputError
        If no chapter has a figure, a statement or a number that a slide names.
    """
    words = f"# {lecture.title}\n\n{lecture.question}"
    cells = [_tagged(new_markdown_cell(words, id="opening"), "slide")]
    for number, slide in enumerate(lecture.slides, 1):
        where = f"book/lectures.yml, slide {slide.title!r}"
        figure, source = _figure(slide.figure, book, where) if slide.figure else (None, "")
        text = _with_numbers(slide.text, slide.chapter or source, book, where)
        words = [f"## {slide.title}", text]
        if slide.statement:
            words.append(_statement(slide.statement, book, where))
        name = f"slide-{number}"
        cells.append(_tagged(new_markdown_cell("\n\n".join(filter(None, words)), id=name), "slide"))
        if figure is not None:
            _crop(figure, slide.crop, where)
            cells.append(_tagged(figure, "-"))
            figure.id = f"{name}-figure"
        if slide.notes:
            cells.append(_tagged(new_markdown_cell(slide.notes, id=f"{name}-notes"), "notes"))
    return new_notebook(cells=cells, metadata={"title": lecture.title})


def _tagged(cell: NotebookNode, kind: str) -> NotebookNode:
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def _figure(name: str, book: dict[str, Chapter], where: str) -> tuple[NotebookNode, str]:
    """The picture of a figure's cell, and the chapter that it stands in."""
    for chapter in book.values():
        for cell in pages.page(chapter).cells:
            if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") != name:
                continue
            pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            for output in pictures:
                output.data = NotebookNode({"image/png": output.data["image/png"]})
                alt = cell.metadata["mystnb"].get("image", {}).get("alt", "")
                output.metadata = NotebookNode({"image/png": {"alt": alt}})
                output.output_type = "display_data"
                output.pop("execution_count", None)
            return new_code_cell("", outputs=pictures, metadata={"tags": ["figure"]}), chapter.name
    raise InputError(f"{where}: no chapter has a figure {name!r}")


def _crop(figure: NotebookNode, part: list[float], where: str) -> None:
    """Keep of a figure's pictures the given part of their height."""
    top, bottom = part if len(part) == 2 else (1.0, 0.0)
    if not 0 <= top < bottom <= 1:
        raise InputError(f"{where}: crop {part} must be two numbers, 0 <= top < bottom <= 1")
    for output in figure.outputs if bottom - top < 1 else []:
        pixels = imread(io.BytesIO(base64.b64decode(output.data["image/png"])))
        kept = io.BytesIO()
        imsave(kept, pixels[round(top * len(pixels)) : round(bottom * len(pixels))], format="png")
        output.data["image/png"] = base64.b64encode(kept.getvalue()).decode()


def _statement(label: str, book: dict[str, Chapter], where: str) -> str:
    """The words of a theorem's box as a quote, without what only the pages understand."""
    opening = re.compile(
        r"^(?P<mark>[> ]*)(?P<fence>[`:]{3,})\{prf:(?P<kind>\w+)\} *(?P<title>.*)\n"
        rf"[> ]*:label: *{re.escape(label)}\n(?P<body>(?:.*\n)*?)(?P=mark)(?P=fence)[ ]*$",
        re.MULTILINE,
    )
    for chapter in book.values():
        for cell in chapter.source.cells:
            if cell.cell_type == "markdown" and (found := opening.search(cell.source + "\n")):
                body = re.sub(r"^[> ]*:[\w-]+:.*\n", "", found["body"], flags=re.MULTILINE)
                lines = [line.removeprefix(found["mark"]) for line in body.strip().split("\n")]
                title = f" ({found['title']})" if found["title"] else ""
                head = f"**{found['kind'].capitalize()}{title}**"  # as the pages write it
                words = _ROLE.sub(r"\1", "\n".join([head, "", *lines]))
                return "\n".join(f"> {line}" for line in words.split("\n"))
    raise InputError(f"{where}: no chapter has a statement {label!r}")


def _with_numbers(text: str, chapter: str, book: dict[str, Chapter], where: str) -> str:
    """The text with the run's numbers in the places of ``{glue:text}``."""
    if not _GLUE.search(text):
        return text
    if chapter not in book:
        raise InputError(f"{where}: has numbers and no chapter; name one under `chapter`")
    known = dict(_glued(book[chapter].executed))

    def put(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise InputError(f"{where}: chapter {chapter!r} has no number {found[1]!r}")
        value = known[found[1]]
        return format(value, found[2] or "")

    return _GLUE.sub(put, text)


def _glued(notebook: NotebookNode) -> Iterator[tuple[str, object]]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            for kind, value in output.get("data", {}).items():
                if name and kind.endswith("text/plain"):
                    try:
                        yield name, ast.literal_eval(value)
                    except (ValueError, SyntaxError):
                        yield name, value


def _html(notebook: NotebookNode, title: str, *, is_quick: bool) -> str:
    """One file with all that it needs: reveal.js, MathJax, pictures."""
    exporter = SlidesExporter(
        template_name="lecture",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    inlined = {
        "title": title,
        "is_quick": is_quick,
        "reveal_js": _asset(*_REVEAL, "reveal.js"),
        "reveal_css": _asset(*_REVEAL, "reveal.css"),
        "mathjax": _asset(*_MATHJAX, "tex-svg.js"),
    }
    return exporter.from_notebook_node(notebook, resources={"inlined": inlined})[0]


def _asset(package: str, folder: str, name: str) -> str:
    text = Path(str(distribution(package).locate_file(f"{folder}/{name}"))).read_text("utf-8")
    return text.replace("</script", r"<\/script")  # it would end the element it is put in


def _print(chromium: str, pages: list[Path]) -> Iterator[Path]:
    """Each file of slides as a PDF, one slide a sheet."""
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=chromium, args=["--disable-dev-shm-usage"]
            )
            for path in pages:
                page = browser.new_page()
                page.set_default_timeout(_SECONDS_A_LECTURE * 1000)
                page.goto(f"{path.resolve().as_uri()}?print-pdf")
                page.evaluate("() => window.ready")
                target = path.with_suffix(".pdf")
                page.pdf(path=target, prefer_css_page_size=True, print_background=True)
                page.close()
                yield target
            browser.close()
    except Error as error:
        raise pdf.PrintError(f"{chromium}: could not print: {error}") from error
