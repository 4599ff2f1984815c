"""Whatever byte of the build folder is wrong: the next build ends well, and the pages are right."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dmf_utils._support import files
from dmf_utils.cli.main import main
from dmf_utils.publishing.project import Project

MakeBook = Callable[..., Project]
LEDGER = """\
- id: small-claim
  group: Numbers
  paper: Section 1
  statement: The number $n$ is large.
  expected: "3"
  rule: {bound_below: 3}
  kind: ours
  verdict: reproduced
  chapter: small
"""
CELL = "from dmf_utils import claims\nclaims.record('small-claim', n)"
PARAMETERS = "n: int = 3  # a number"


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: max(1, path.stat().st_size // 2)])


def noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(300))


def changed(path: Path) -> None:
    """One letter of the contents: what still reads well."""
    content = bytearray(path.read_bytes() or b"x")
    place = len(content) // 2
    content[place] = ord("y") if content[place] == ord("x") else ord("x")
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def unreadable(path: Path) -> None:
    """A link to itself, which not even root can read."""
    path.unlink()
    path.symlink_to(path.name)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "noise": noise,
    "changed": changed,
    "folder": a_folder,
    "unreadable": unreadable,
    "gone": lambda path: path.unlink(),
    "other JSON": lambda path: path.write_text("[1]"),
}


def contents(folder: Path) -> dict[str, bytes]:
    """The pages, without what says when they were made and how long that took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".html", ".css", ".png") and path.name not in ("genindex.html",)
    }


@pytest.fixture
def built(make_book: MakeBook, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = make_book(CELL, parameters=PARAMETERS, ledger=LEDGER)
    monkeypatch.chdir(project.root)
    assert main(["book"]) == 0
    return project


def state_files(project: Project) -> list[Path]:
    """One of each kind that the build goes by, and some pages."""
    build = project.build
    return [
        build / ".lock",
        build / "claims.json",
        build / "runs" / "small.ipynb",
        build / "runs" / "small.json",
        build / "executed" / "small.ipynb",
        build / "executed" / "_toc.yml",
        build / "html" / ".dmf-key",
        build / "html" / "small.html",
        build / "html" / "_static" / "book.css",
        build / "html" / "searchindex.js",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_next_build_mends_each_file(
    built: Project, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole = set(contents(built.html))
    for path in state_files(built):
        assert os.path.lexists(path), path
        DAMAGES[damage](path)
        capsys.readouterr()
        assert main(["book"]) == 0, path
        assert capsys.readouterr().err == ""
        found = contents(built.html)
        assert set(found) == whole, path
        assert b"</html>" in found["small.html"]
        assert "measured: 3" in found["small.html"].decode()
        assert main(["book"]) == 0
        assert "pages unchanged" in capsys.readouterr().out, path
    assert main(["claims"]) == 0


def test_a_damaged_notebook_of_an_execution_is_not_shown(
    built: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = built.runs / "small.ipynb"
    path.write_text(path.read_text().replace('"measured": 3', '"measured": 9'))
    assert main(["claims"]) == 0
    capsys.readouterr()
    assert main(["book"]) == 0
    assert "executed" in capsys.readouterr().out  # again: its digest is another
    assert '"measured": 3' in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["runs", "executed", "html", "figures", ""])
def test_a_file_in_the_place_of_a_folder_goes(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    project = make_book("1 + 1")
    monkeypatch.chdir(project.root)
    place = project.build / folder
    place.parent.mkdir(exist_ok=True)
    place.write_text("not a folder")
    assert main(["book"]) == 0
    assert (project.html / "small.html").is_file()


def test_claims_of_another_shape_are_one_line(
    built: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "[1]", '{"a": 1}', '[{"verdict": "good"}]', "\udcff", "[" * 10000):
        built.claims.write_bytes(text.encode("utf-8", "surrogateescape"))
        capsys.readouterr()
        assert main(["claims"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("dmf: ")
        assert "is damaged, or not of this version" in told
        assert told.count("\n") == 1
    assert main(["book"]) == 0
    assert main(["claims"]) == 0


def test_a_stored_result_that_is_damaged_is_mended_within_the_same_build(
    make_book: MakeBook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("DMF_CACHE", str(cache))
    cell = (
        "from dmf_utils.sweep import grid, project_cache, sweep\n"
        "small = {'rows': 4, 'columns': 4, 'rank': 1, 'n_observed': 12}\n"
        "len(sweep(grid(**small, method='truth'), workers=1, cache=project_cache()))"
    )
    monkeypatch.chdir(make_book(cell).root)
    assert main(["book"]) == 0
    (chunk,) = cache.glob("*.parquet")
    chunk.write_bytes(b"PAR1")
    assert main(["book", "--force"]) == 0
    assert "a stored result was damaged and is mended" in capsys.readouterr().out
    assert chunk.stat().st_size > 100


def test_a_link_in_the_build_folder_leads_nowhere_else(
    make_book: MakeBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_book("1 + 1")
    monkeypatch.chdir(project.root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    project.build.mkdir()
    project.executed.symlink_to(outside)
    assert main(["book"]) == 0
    assert [path.name for path in outside.iterdir()] == ["precious"]
    files.clear(project.build)
