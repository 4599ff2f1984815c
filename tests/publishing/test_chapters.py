"""Every chapter of the book: its source is clean, and it executes at its quick size."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from dmf_utils._support.notebooks import read_notebook
from dmf_utils.publishing import parameters
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.reading import reading_minutes
from dmf_utils.teaching import prompts

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
each_reading = pytest.mark.parametrize(
    "path", [path for path in CHAPTERS if path.stem != "claims"], ids=lambda path: path.stem
)


@each_chapter
def test_the_source_is_a_valid_notebook_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.nbformat_minor >= 5
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
    assert not any("papermill" in part.metadata for part in (notebook, *notebook.cells))


@each_chapter
def test_the_chapter_opens_with_its_title(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    headings = [line for line in first.source.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# ")


@each_reading
def test_the_chapter_asks_before_it_shows_and_asks_again(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    first_exercise = next(n for n, cell in enumerate(cells) if "{exercise" in cell.source)
    shown = [n for n, cell in enumerate(cells) if cell.cell_type == "code"]
    # the projects of this chapter run cells, and stand below its exercise
    last = max(n for n in shown if n < first_exercise or path.stem == "known_and_open")
    before = [cell.source for cell in cells[:last] if cell.cell_type == "markdown"]
    whole = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    to_predict = sum(prompts.count_answers(text) + text.count("{question} ") for text in before)
    assert to_predict >= 2, "at least two prompts to predict what a later cell shows"
    assert "{question} " in whole, "at least one question that is answered in the page"
    for text in before:
        assert prompts.count(text) <= prompts.count_answers(text), "a prompt without its answer"


@each_reading
def test_the_chapter_is_read_in_25_minutes(path: Path) -> None:
    assert reading_minutes(nbformat.read(path, as_version=4)) <= 25


@each_chapter
def test_every_parameter_is_annotated_and_explained(path: Path) -> None:
    known = parameters.read(
        read_notebook(path), path.name
    )  # refuses a line without type, plain default or comment
    if path.stem != "claims":  # the ledger's page has nothing to choose
        assert known
    project = Project(ROOT, quick=True)
    quick = parameters.quick_values(project, path.stem, known)
    assert all(quick[name] != known[name].default for name in quick)


@each_chapter
def test_every_figure_has_a_caption_and_an_alternative_text(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        settings = cell.metadata.get("mystnb", {})
        if "figure" in settings:
            assert settings["figure"]["name"].startswith("fig-")
            assert len(settings["figure"]["caption"]) > 20
            assert len(settings["image"]["alt"]) > 20


@each_chapter
def test_the_chapter_stands_in_the_table_of_contents(path: Path) -> None:
    assert path.stem in Project(ROOT).chapters()


def test_every_quick_size_belongs_to_a_chapter() -> None:
    sizes = {path.stem for path in (ROOT / "book" / "quick").glob("*.yml")}
    assert sizes <= {path.stem for path in CHAPTERS}


@each_chapter
def test_the_chapter_executes_at_its_quick_size(path: Path, quick_book: Project) -> None:
    executed = nbformat.read(quick_book.executed / path.name, as_version=4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source.strip())
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "Quick size, not the paper's" in executed.cells[0].source
    assert not any("papermill" in part.metadata for part in (executed, *executed.cells))
    injected = [c for c in code if "injected-parameters" in c.metadata.get("tags", [])]
    assert all("hide-input" in cell.metadata.tags for cell in injected)
    assert "How this page was made" in executed.cells[-1].source


@each_chapter
def test_every_captioned_cell_shows_its_figure(path: Path, quick_book: Project) -> None:
    for cell in nbformat.read(quick_book.executed / path.name, as_version=4).cells:
        if "figure" in cell.metadata.get("mystnb", {}):
            shown = [name for output in cell.outputs for name in output.get("data", {})]
            assert [name for name in shown if name.startswith("image/")], cell.id
