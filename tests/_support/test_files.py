"""The one rule of outputs, and files that appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO

import pytest

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.files import check_outputs, together, write_whole


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_output_is_accepted_and_nothing_is_left_of_the_trial(tmp_path: Path) -> None:
    check_outputs([tmp_path / "new.csv"])
    assert names(tmp_path) == set()
    (tmp_path / "in.csv").touch()
    check_outputs([tmp_path / "new.csv"], [tmp_path / "in.csv"])
    assert names(tmp_path) == {"in.csv"}


def test_what_exists_is_refused_unless_it_is_ours_or_forced(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"--out .*mine\.csv: is there already.*--force"):
        check_outputs([path], option="--out")
    check_outputs([path], is_ours=lambda one: one == path)
    check_outputs([path], force=True)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("way", ["same", "dots", "symbolic", "hard"])
def test_an_input_is_never_an_output_by_whatever_name(tmp_path: Path, way: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("data")
    (tmp_path / "folder").mkdir()
    output = {"same": source, "dots": tmp_path / "folder" / ".." / "in.csv"}.get(
        way, tmp_path / "other.csv"
    )
    if way == "symbolic":
        output.symlink_to(source)
    elif way == "hard":
        output.hardlink_to(source)
    with pytest.raises(InputError, match="is a source here, never an output"):
        check_outputs([output], [source], is_ours=lambda path: True, force=True)


def test_a_tracked_source_is_never_an_output(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("text")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "notes.md"], check=True)
    link = tmp_path / "link.md"
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(InputError, match="git tracks it"):
            check_outputs([output], is_ours=lambda one: True, force=True)
    (tmp_path / "untracked.md").write_text("")
    check_outputs([tmp_path / "untracked.md"], force=True)


def test_where_one_cannot_write_is_found_out_before(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder; name a file"):
        check_outputs([tmp_path / "folder"])
    with pytest.raises(InputError, match="does not exist; make it first"):
        check_outputs([tmp_path / "none" / "a.csv"])
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        check_outputs([tmp_path / ("n" * 300)])
    with pytest.raises(InputError, match="cannot be written"):
        check_outputs([Path("/proc/a.csv")])
    (tmp_path / "circle.csv").symlink_to(tmp_path / "circle.csv")
    for force in (False, True):
        with pytest.raises(InputError, match="cannot be written: "):
            check_outputs([tmp_path / "circle.csv"], [tmp_path / "folder"], force=force)


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_is_no_output_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("/dev/null")
    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(InputError, match="is a device or a pipe; name a file"):
            check_outputs([tmp_path / name], is_ours=lambda path: bool(path.read_bytes()))
        with pytest.raises(InputError, match="is a device or a pipe"):
            check_outputs([tmp_path / name], force=True)
    assert (tmp_path / "pipe.csv").is_fifo()


def test_files_are_put_in_place_together_or_not_at_all(tmp_path: Path) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("before")

    def interrupted() -> None:
        with together(old, new) as parts:
            for part in parts:
                part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (names(tmp_path), old.read_text()) == ({"old.csv"}, "before")
    with together(old, new) as (first, second):
        first.write_text("one")
        second.write_text("two")
        assert old.read_text() == "before"
    assert (old.read_text(), new.read_text()) == ("one", "two")
    assert names(tmp_path) == {"old.csv", "new.csv"}


@pytest.mark.parametrize("order", ["abc", "cab", "acb"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_rename_that_fails_gives_back_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, order: str
) -> None:
    places = [tmp_path / name for name in order]
    before = {path: f"before {path.name}" for path in places if path.name != "c"}
    for path, text in before.items():
        path.write_text(text)
    count, replace = 0, os.replace

    def refuse(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == failing:
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse)

    def write() -> None:
        with together(*places) as parts:
            for part in parts:
                part.write_text("after")

    with pytest.raises(OSError, match="the disk is gone"):
        write()
    assert names(tmp_path) == {"a", "b"}
    assert {path: path.read_text() for path in before} == before


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def fails(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_whole(path, fails)
    assert names(tmp_path) == set()
    write_whole(path, lambda file: file.write(b"whole"))
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("kind", ["file", "folder", "loop", "nothing"])
def test_our_own_places_are_cleared_of_whatever_stands_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    if kind == "file":
        path.write_text("")
    elif kind == "folder":
        path.mkdir()
        (path / "link").symlink_to(outside)
    elif kind == "loop":
        path.symlink_to(path)
    assert files.folder(path).is_dir()
    files.clear(path)
    assert not os.path.lexists(path)
    assert (outside / "kept").exists()  # what a link leads to is not ours
