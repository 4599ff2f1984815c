"""The book's pictures as files."""

import base64
from pathlib import Path

import nbformat

from dmf_utils.publishing import figures

PICTURE = base64.b64encode(b"\x89PNG made here").decode()


def chapter(name: str | None, data: dict[str, str]) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("draw()")
    if name:
        cell.metadata["mystnb"] = {"figure": {"name": name, "caption": "A picture."}}
    cell.outputs = [
        nbformat.v4.new_output("display_data", data={"text/plain": "42"}),
        nbformat.v4.new_output("display_data", data=data),
    ]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Text"), cell])


def test_captioned_pictures_are_written_and_nothing_else(tmp_path: Path) -> None:
    nbformat.write(chapter("fig-one", {"image/png": PICTURE}), tmp_path / "one.ipynb")
    nbformat.write(chapter(None, {"image/png": PICTURE}), tmp_path / "two.ipynb")
    nbformat.write(chapter("fig-three", {"text/plain": "no picture"}), tmp_path / "three.ipynb")
    folder = tmp_path / "new" / "figures"
    assert figures.write(tmp_path, folder) == [folder / "fig-one.png"]
    assert [path.name for path in folder.iterdir()] == ["fig-one.png"]
    assert (folder / "fig-one.png").read_bytes() == b"\x89PNG made here"
