"""The key of what is stored: it follows all that decides a number, wherever it stands."""

import shutil
from pathlib import Path

import pytest

from dmf_utils._support.fingerprint import (
    PACKAGE,
    deciding_files,
    imported_modules,
    source_hash,
)
from dmf_utils.sweep.source import ROOTS, SOURCE


@pytest.fixture
def tree(tmp_path):
    """A copy of the package, to be edited."""
    return Path(
        shutil.copytree(
            PACKAGE, tmp_path / "dmf_utils", ignore=shutil.ignore_patterns("__pycache__")
        )
    )


def write(tree, files):
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_key_is_that_of_the_files_here():
    assert source_hash(ROOTS) == SOURCE
    assert len(SOURCE) == 64


def test_every_module_that_decides_changes_the_key(tree):
    whole = source_hash(ROOTS, tree)
    assert whole == SOURCE  # by the places within the package, not by where it is
    deciding = deciding_files(ROOTS, tree)
    assert len(deciding) > 15
    for path in deciding:
        text = path.read_text()
        path.write_text(text + "# decides\n")
        assert source_hash(ROOTS, tree) != whole, path
        path.write_text(text)
    assert source_hash(ROOTS, tree) == whole


def test_an_edit_elsewhere_keeps_the_key(tree):
    deciding = set(deciding_files(ROOTS, tree))
    others = [path for path in tree.rglob("*.py*") if path not in deciding]
    assert len(others) > 20
    for path in others:
        if path.suffix in (".py", ".pyi"):
            path.write_text(path.read_text() + "# decides nothing\n")
    assert source_hash(ROOTS, tree) == SOURCE


def test_a_moved_module_changes_the_key_and_stays_in_it(tree):
    """Deeper folders, and two modules of the same name, are told apart."""
    (deciding,) = [p for p in deciding_files(ROOTS, tree) if p.name == "chebyshev.py"]
    name = ".".join(("dmf_utils", *deciding.relative_to(tree).with_suffix("").parts))
    new = tree / "moved" / "deeper" / "chebyshev.py"
    new.parent.mkdir(parents=True)
    deciding.rename(new)
    with pytest.raises(ImportError, match=rf"imports {name}, which is not in"):
        source_hash(ROOTS, tree)  # never a key that left it out in silence
    for path in tree.rglob("*.py"):
        path.write_text(path.read_text().replace(name, "dmf_utils.moved.deeper.chebyshev"))
    moved = source_hash(ROOTS, tree)
    assert moved != SOURCE
    assert new in deciding_files(ROOTS, tree)
    new.write_text(new.read_text() + "# decides\n")
    assert source_hash(ROOTS, tree) != moved


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("import numpy\nfrom os import path", set()),
        ("from dmf_utils.wing.room import thing", {"wing.room"}),
        ("from dmf_utils.wing import room", {"wing", "wing.room"}),
        ("from dmf_utils.wing import thing", {"wing", "wing.room"}),
        ("from dmf_utils import wing", {"", "wing", "wing.room", "wing.other"}),
        ("import dmf_utils.wing.room as r", {"wing.room"}),
        ("import dmf_utils", {""}),
        ("def late():\n    from dmf_utils.wing.other import one", {"wing.other"}),
        ("from dmf_utils import thing", {"", "wing.room"}),
    ],
)
def test_names_lead_to_the_modules_that_hold_them(tmp_path, text, wanted):
    write(
        tmp_path,
        {
            "__init__.py": "",
            "__init__.pyi": "from .wing.room import thing as thing\n",
            "wing/__init__.py": "",
            "wing/__init__.pyi": "from .room import thing\nfrom .other import one as uno\n",
            "wing/room.py": "def thing(): ...\n",
            "wing/other.py": "one = 1\n",
        },
    )
    names = {f"dmf_utils.{name}".rstrip(".") for name in wanted}
    assert imported_modules(text, tmp_path) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from dmf_utils.wing.attic import x", r"imports dmf_utils\.wing\.attic, which is not in"),
        ("from dmf_utils.wing.room import x", r"imports 'x' from dmf_utils\.wing\.room, which"),
        ("from dmf_utils import cellar", r"imports 'cellar' from dmf_utils, which does not"),
        ("import dmf_utils.cellar", r"imports dmf_utils\.cellar, which is not in"),
        ("from dmf_utils.wing.room import *", r"imports '\*'"),
        ("from . import room", r"relative import in line 1"),
    ],
)
def test_a_name_that_does_not_resolve_is_an_error(tmp_path, text, message):
    write(tmp_path, {"__init__.py": "", "wing/__init__.py": "", "wing/room.py": "thing = 1\n"})
    with pytest.raises(ImportError, match=message):
        imported_modules(text, tmp_path)


def test_faces_are_no_part_of_the_key_unless_they_compute(tmp_path):
    files = {
        "__init__.py": '"""Top."""\n',
        "wing/__init__.py": '"""A face."""\n',
        "wing/room.py": "from dmf_utils.full import number\nthing = number\n",
        "full/__init__.py": "number = 3\n",
    }
    write(tmp_path, files)
    found = deciding_files(["dmf_utils.wing.room"], tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "full/__init__.py",
        "wing/room.py",
    ]
