"""Handouts: for each chapter a student notebook, and PDFs for students and for instructors."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat

from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import title_of
from dmf_utils.publishing import execution, site
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.project import Project
from dmf_utils.teaching import pdf
from dmf_utils.teaching.leak_check import LeakError, SolutionWatch, notebook_text
from dmf_utils.teaching.solutions import Answer, SolutionError, lined_space, strip
from dmf_utils.teaching.student_notebook import classroom_parameters, student_notebook

__all__ = ["FAILURES", "VERSIONS", "make_handouts"]

VERSIONS = ("student", "instructor")
FAILURES = (SolutionError, LeakError, pdf.PrintError)
_NOT_A_CHAPTER = "claims"
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
    every = [name for name in project.chapters() if name != _NOT_A_CHAPTER]
    for name in chapters or []:
        project.chapter_path(name)
        if name == _NOT_A_CHAPTER:
            raise InputError(f"chapter {name!r}: is the ledger, choose one of {', '.join(every)}")
    chosen = chapters or every
    chromium = pdf.find_chromium()
    if missing := [name for name in project.chapters() if not execution.last_run(project, name)]:
        print(f"not executed yet, so the book is built first: {', '.join(missing)}")
        build_book(project)
    else:
        build_book(project, chosen)

    folder = project.build / "handouts"
    made: list[Path] = []
    if "student" in versions:
        made += _student(project, chosen, folder, chromium, course)
    if "instructor" in versions and chromium:
        sheets = _sheets(project, chosen, folder, "instructor", course)
        made += pdf.print_sheets(chromium, sheets)
    if chromium is None:
        pages = [project.html] if "instructor" in versions else []
        pages += [_StudentBook(project.root, project.quick).html] if "student" in versions else []
        print(_HOW_TO_PRINT.format(pages=" and ".join(map(str, pages))))
    return made


def _student(
    project: Project, chosen: list[str], folder: Path, chromium: str | None, course: str
) -> list[Path]:
    """The student files. Whatever fails, no student file of these chapters is left."""
    student = _StudentBook(project.root, project.quick)
    for name in chosen:
        for path in folder.glob(f"{name}-student*"):
            path.unlink()
    made: list[Path] = []
    try:
        watch = _student_tree(project, student)
        watch.check_folder(student.build)
        for name in chosen:
            content = nbformat.writes(student_notebook(project, name).notebook)
            path = folder / f"{name}-student.ipynb"
            watch.check_notebook(content, path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(path)
            path.write_text(content, encoding="utf-8")
        if chromium:
            sheets = _sheets(student, chosen, folder, "student", course)
            made += [sheet.target for sheet in sheets]
            pdf.print_sheets(
                chromium, sheets, lambda sheet, markup: watch.check_page(markup, sheet.target.name)
            )
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        shutil.rmtree(student.build, ignore_errors=True)
        raise
    return made


def _student_tree(project: Project, student: Project) -> SolutionWatch:
    """Build the pages without solutions; what knows the solutions."""
    shutil.rmtree(student.executed, ignore_errors=True)
    shutil.copytree(
        project.executed, student.executed, ignore=shutil.ignore_patterns("*.ipynb", "_build")
    )
    shutil.copy(pdf.STYLE, student.executed / "_static" / pdf.STYLE.name)
    answers: list[Answer] = []
    kept = [path.read_text(encoding="utf-8") for path in _texts(project.executed)]
    for name in project.chapters():
        page = nbformat.read(project.executed / f"{name}.ipynb", as_version=4)
        stripped = strip(page, name, lined_space)
        answers += stripped.answers
        # What stays is known apart from what is handed out, or a leak there would excuse itself.
        rest = strip(page, name, lambda answer: []).notebook
        kept.append(notebook_text(nbformat.writes(rest)))
        kept.append(classroom_parameters(project, name))
        target = student.executed / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(stripped.notebook, target)
    watch = SolutionWatch(answers, kept)
    if not site.is_current(student):
        site.build(student)
    return watch


def _sheets(
    project: Project, chosen: list[str], folder: Path, version: str, course: str
) -> list[pdf.Sheet]:
    """Each chapter on each paper."""
    sheets = []
    for name in chosen:
        title = title_of(nbformat.read(project.executed / f"{name}.ipynb", as_version=4))
        for ending, paper in pdf.PAPERS.items():
            target = folder / f"{name}-{version}{ending}.pdf"
            target.parent.mkdir(parents=True, exist_ok=True)
            page = project.html / f"{name}.html"
            sheets.append(pdf.Sheet(page, target, paper, title, version, course))
    return sheets


def _texts(folder: Path) -> list[Path]:
    return [path for ending in ("md", "bib", "html") for path in folder.rglob(f"*.{ending}")]
