"""Handouts: for each chapter a student notebook, and PDFs for students and for instructors."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import read_notebook, write_notebook
from dmf_utils.publishing import lectures, site
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import LEDGER_CHAPTER, Chapter, read_chapters
from dmf_utils.publishing.project import Project
from dmf_utils.teaching import pdf
from dmf_utils.teaching.leak_check import LeakError, SolutionWatch, notebook_text
from dmf_utils.teaching.solutions import Answer, SolutionError, Stripped, lined_space, strip
from dmf_utils.teaching.student_notebook import classroom_parameters, student_notebook

__all__ = ["FAILURES", "VERSIONS", "make_handouts"]

VERSIONS = ("student", "instructor")
FAILURES = (SolutionError, LeakError, pdf.PrintError)
_TEACHERS = "<!-- generated: lectures -->"
_HOW_TO_PRINT = (
    "no PDF: there is no Chromium here; install it (or name it in DMF_CHROMIUM) and run this "
    "again, or print the pages in {pages} from any browser"
)


@dataclass(frozen=True)
class _StudentBook(Project):
    """The book without solutions: the same tree, in a place of its own."""

    @property
    def build(self) -> Path:
        return super().build / "handouts" / "student"


def make_handouts(
    project: Project,
    chapters: list[str] | None = None,
    *,
    versions: tuple[str, ...] = VERSIONS,
    course: str = "",
) -> list[Path]:
    """Make the handouts from the executed book, which is built first where it is not.

    Parameters
    ----------
    project
        Where, and at which size.
    chapters
        All by default.
    versions
        ``student``, ``instructor``, or both.
    course
        A line for the head of every sheet.

    Returns
    -------
    list of Path
        The files, in ``handouts/`` below the build folder.

    Raises
    ------
    InputError
        If a chapter is unknown or the book's sources are not in order.
    ChapterError, LedgerError, SiteError
        If the book cannot be built.
    SolutionError
        If a solution has no beginning or no end.
    LeakError
        If something of a solution was left; there are no student files then.
    PrintError
        If Chromium fails.
    """
    every = [name for name in project.chapters() if name != LEDGER_CHAPTER]
    for name in chapters or []:
        project.chapter_path(name)
        if name == LEDGER_CHAPTER:
            raise InputError(f"chapter {name!r}: is the ledger, choose one of {', '.join(every)}")
    chosen = chapters or every
    chromium = pdf.find_chromium()
    _build_what_is_missing(project, chosen)
    book = read_chapters(project)
    folder = files.folder(project.build / "handouts")
    made: list[Path] = []
    if "student" in versions:
        made += _student(project, book, chosen, folder, chromium, course)
    if "instructor" in versions and chromium:
        sheets = _sheets(project, [book[name] for name in chosen], folder, "instructor", course)
        made += pdf.print_sheets(chromium, sheets)
    if chromium is None:
        pages = [project.html] if "instructor" in versions else []
        pages += [_StudentBook(project.root, project.quick).html] if "student" in versions else []
        print(_HOW_TO_PRINT.format(pages=" and ".join(map(str, pages))))
    return made


def _build_what_is_missing(project: Project, chosen: list[str]) -> None:
    if missing := [name for name, c in read_chapters(project).items() if not c.last]:
        print(f"not executed yet, so the book is built first: {', '.join(missing)}")
        build_book(project)
    else:
        build_book(project, chosen)


def _student(
    project: Project,
    book: dict[str, Chapter],
    chosen: list[str],
    folder: Path,
    chromium: str | None,
    course: str,
) -> list[Path]:
    """The student files. Whatever fails, no student file of these chapters is left."""
    student = _StudentBook(project.root, project.quick)
    for name in chosen:
        for path in folder.glob(f"{name}-student*"):
            path.unlink()
    made: list[Path] = []
    try:
        watch = _student_tree(project, student, book)
        watch.check_folder(student.build)
        for name in chosen:
            content = nbformat.writes(student_notebook(book[name]).notebook)
            path = folder / f"{name}-student.ipynb"
            watch.check_notebook(content, path.name)
            made.append(path)
            files.write_whole(path, lambda file, text=content: file.write(text.encode()))
        if chromium:
            sheets = _sheets(student, [book[name] for name in chosen], folder, "student", course)
            made += [sheet.target for sheet in sheets]
            pdf.print_sheets(
                chromium, sheets, lambda sheet, markup: watch.check_page(markup, sheet.target.name)
            )
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        files.clear(student.build)
        raise
    return made


def _student_tree(project: Project, student: Project, book: dict[str, Chapter]) -> SolutionWatch:
    """Build the pages without solutions; what knows the solutions."""
    files.clear(student.executed)
    shutil.copytree(
        project.executed,
        student.executed,
        ignore=shutil.ignore_patterns("*.ipynb", "_build", "lectures.yml"),
    )
    shutil.copy(pdf.STYLE, student.executed / "_static" / pdf.STYLE.name)
    answers: list[Answer] = []
    kept = [path.read_text(encoding="utf-8") for path in _texts(project.executed)]
    for name, chapter in book.items():
        page = read_notebook(project.executed / f"{name}.ipynb")
        stripped, rest = _without_solutions(page, name)
        answers += stripped.answers
        kept += [notebook_text(nbformat.writes(rest)), classroom_parameters(chapter)]
        write_notebook(stripped.notebook, student.executed / f"{name}.ipynb")
    answers += _without_teachers_pages(project, student)
    for path in sorted(student.executed.rglob("*.md")):
        cell = nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"), id="page")
        page = nbformat.v4.new_notebook(cells=[cell])
        stripped, rest = _without_solutions(page, path.stem)
        answers += stripped.answers
        kept.append(_text_of(rest))
        path.write_text(_text_of(stripped.notebook), encoding="utf-8")
    watch = SolutionWatch(answers, kept)
    if not site.is_current(student):
        site.build(student)
    return watch


def _without_teachers_pages(project: Project, student: Project) -> list[Answer]:
    """Leave the title of a page that the build fills with expected answers; those answers."""
    answers: list[Answer] = []
    for path in sorted(student.executed.rglob("*.md")):
        source = project.book / path.relative_to(student.executed)
        if _TEACHERS in (text := source.read_text(encoding="utf-8")):
            heading = re.search(r"^# .*$", text, flags=re.MULTILINE)
            title = heading[0] if heading else "# For teachers"
            path.write_text(f"{title}\n\nThis page is in the teachers' book.\n", encoding="utf-8")
            answers = [
                Answer(label, [expected])
                for lecture in lectures.load(project).lectures
                for label, expected in lecture.exercises.items()
            ]
    return answers


def _without_solutions(page: NotebookNode, name: str) -> tuple[Stripped, NotebookNode]:
    """A page with space for answers, and what of it stays.

    The second is known apart from what is handed out, or a leak there would excuse itself.
    """
    return strip(page, name, lined_space), strip(page, name, lambda answer: []).notebook


def _text_of(page: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in page.cells) + "\n"


def _sheets(
    project: Project, chosen: list[Chapter], folder: Path, version: str, course: str
) -> list[pdf.Sheet]:
    """Each chapter on each paper."""
    return [
        pdf.Sheet(
            page=project.html / f"{chapter.name}.html",
            target=folder / f"{chapter.name}-{version}{ending}.pdf",
            paper=paper,
            title=chapter.title,
            version=version,
            course=course,
        )
        for chapter in chosen
        for ending, paper in pdf.PAPERS.items()
    ]


def _texts(folder: Path) -> list[Path]:
    return [path for ending in ("bib", "html") for path in folder.rglob(f"*.{ending}")]
