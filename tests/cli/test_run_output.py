"""``dmf run`` writes one notebook, where it may, and loses none of the user's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from dmf_utils.cli import main as module
from dmf_utils.cli.main import main
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project

MakeBook = Callable[..., Project]
PARAMETERS = 'n: int = 3  # a number\nown_file: str = ""  # a file to read'


@pytest.fixture
def book(make_book: MakeBook, monkeypatch: pytest.MonkeyPatch) -> Project:
    """With a second chapter, and an execution that takes no time."""
    project = make_book("n", parameters=PARAMETERS)
    chapter = nbformat.read(project.book / "small.ipynb", as_version=4)
    nbformat.write(chapter, project.book / "two.ipynb")
    contents = project.book / "_toc.yml"
    contents.write_text(contents.read_text() + "- file: two\n")
    monkeypatch.chdir(project.root)

    def papermill(chapter: Chapter, values: dict, output: Path, *rest: object, **more: object):
        notebook = nbformat.from_dict(chapter.source)
        notebook.cells[-1].source = f"n = {values.get('n', 3)}"
        nbformat.write(notebook, output)

    monkeypatch.setattr(module, "run_papermill", papermill)
    return project


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["run", "small", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("dmf: ")
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_no_chapter_is_replaced(
    book: Project, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    before = {path: path.read_bytes() for path in book.book.rglob("*") if path.is_file()}
    link = book.root / "link.ipynb"
    link.symlink_to(book.book / "two.ipynb")
    for place in ("book/two.ipynb", "book/small.ipynb", "./book/../book/two.ipynb", "link.ipynb"):
        told = refused(capsys, "--output", place, *options)
        assert "is a source here, never an output" in told
    assert {path: path.read_bytes() for path in before} == before


def test_a_notebook_of_the_users_is_not_replaced(
    book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = book.root / "mine.ipynb"
    mine.write_text('{"precious": 1}')
    assert "--force" in refused(capsys, "--output", "mine.ipynb")
    assert mine.read_text() == '{"precious": 1}'
    assert main(["run", "small", "--output", "mine.ipynb", "--force"]) == 0
    assert nbformat.read(mine, as_version=4).cells


def test_what_dmf_wrote_is_replaced_until_somebody_works_in_it(
    book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = book.root / "mine.ipynb"
    for n in ("4", "5"):
        assert main(["run", "small", "-p", f"n={n}", "--output", "mine.ipynb"]) == 0
        assert nbformat.read(path, as_version=4).cells[-1].source == f"n = {n}"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source += "  # my note"
    nbformat.write(notebook, path)
    assert "is there already" in refused(capsys, "--output", "mine.ipynb")
    assert "my note" in path.read_text()


def test_a_run_that_fails_costs_nothing(
    book: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small", "--output", "mine.ipynb"]) == 0
    before = (book.root / "mine.ipynb").read_bytes()

    def fails(*details: object, **more: object) -> None:
        raise module.ChapterError("small, cell 2: it fails")

    monkeypatch.setattr(module, "run_papermill", fails)
    assert main(["run", "small", "--output", "mine.ipynb"]) == 1
    assert (book.root / "mine.ipynb").read_bytes() == before
    assert {path.name for path in book.root.iterdir() if path.suffix != ".yml"} >= {"mine.ipynb"}


def test_neighbours_of_the_output_stay(book: Project) -> None:
    for ending in (".log", ".progress"):
        (book.root / f"mine{ending}").write_text("precious")
    assert main(["run", "small", "--output", "mine.ipynb"]) == 0
    for ending in (".log", ".progress"):
        assert (book.root / f"mine{ending}").read_text() == "precious"


def test_a_file_that_is_read_is_not_written(
    book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (book.root / "data.ipynb").write_text("data")
    arguments = ["-p", "own_file=data.ipynb", "--output", "data.ipynb", "--force"]
    assert "is a source here" in refused(capsys, *arguments)
    assert (book.root / "data.ipynb").read_text() == "data"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("folder.ipynb", "is a folder; name a file"),
        ("none/x.ipynb", "does not exist; make it first"),
        ("/proc/x.ipynb", "cannot be written"),
        (f"{'n' * 300}.ipynb", "cannot be written"),
        ("x.txt", "must end in .ipynb"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    book: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    words: str,
) -> None:
    (book.root / "folder.ipynb").mkdir()
    monkeypatch.setattr(module, "run_papermill", None)
    assert words in refused(capsys, "--output", place)
