"""What `dmf_utils` exports, that its import is light, and that imports run one way."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dmf_utils
from dmf_utils._support.fingerprint import imported_modules

HEAVY = ("torch", "scipy", "pandas", "matplotlib", "cvxpy")
PACKAGE = Path(dmf_utils.__file__).parent
FACES = ("dmf_utils", *(f"dmf_utils.{stub.parent.name}" for stub in PACKAGE.glob("*/*.pyi")))

# What each wing may import, beside itself.
BELOW = {
    "_support": set(),
    "factorization": {"_support"},
    "problems": {"_support"},
    "claims": {"_support"},
    "flow": {"_support", "factorization", "problems"},
    "convex": {"_support", "problems"},
    "publishing": {"_support", "claims"},
    "theory": {"_support", "factorization", "problems", "flow"},
    "sweep": {"_support", "factorization", "problems", "flow", "convex"},
    "user_data": {"_support", "factorization", "problems", "flow", "convex"},
    "teaching": {"_support", "claims", "publishing"},
    "plotting": {"flow"},
    "explore": {"factorization", "problems", "flow", "plotting"},
    "cli": {"_support", "claims", "publishing", "teaching", "sweep", "user_data"},
}


def loaded_after(statement):
    """Which heavy packages a new process has loaded."""
    code = f"import sys\n{statement}\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", [*FACES, "dmf_utils.cli.main", "dmf_utils.claims.recording"])
def test_nothing_heavy_is_loaded_before_it_is_used(name):
    assert loaded_after(f"import {name}") == []


def test_a_name_brings_what_it_needs_and_no_figures():
    loaded = loaded_after("from dmf_utils import gradient_flow")
    assert "torch" in loaded
    assert {"matplotlib", "cvxpy", "pandas", "scipy"}.isdisjoint(loaded)


@pytest.mark.parametrize("face", FACES)
def test_each_name_of_a_face_is_there(face):
    module = import_module(face)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        if name != "DEFAULTS":
            assert getattr(module, name).__name__ == name
        assert name in dir(module)


def test_a_name_of_a_face_is_not_that_of_its_module():
    """A module `sweep/sweep.py` would stand in the place of the function after its import."""
    for face in FACES:
        folder = PACKAGE.joinpath(*face.split(".")[1:])
        rooms = {path.stem for path in folder.iterdir()}
        assert rooms.isdisjoint(import_module(face).__all__), face


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="dmf_utils attribute gradient_flaw"):
        dmf_utils.gradient_flaw  # noqa: B018, to ask for it is the test
    with pytest.raises(ImportError, match="gradient_flaw"):
        from dmf_utils import gradient_flaw  # noqa: F401, to ask for it is the test


def wing(module):
    """The wing of a module, by its full name."""
    return module.split(".")[1]


def modules():
    """All modules of the wings, by their full names."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]
    places = [path.relative_to(PACKAGE).with_suffix("").parts for path in paths]
    return [
        (".".join(("dmf_utils", *place)), path) for place, path in zip(places, paths, strict=True)
    ]


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda part: Path(part).name)
def test_imports_run_one_way(name, path):
    """A module imports modules of its own wing and of those below, and never a face."""
    text = path.read_text(encoding="utf-8")
    for found in imported_modules(text, where=name) - {"dmf_utils"}:
        assert wing(found) in BELOW[wing(name)] | {wing(name)}, f"{name} imports {found}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "dmf_utils":
            assert {alias.name for alias in node.names} <= {"explore", "plotting"}, name
        if isinstance(node, ast.ImportFrom) and node.module in FACES[1:]:
            rooms = {room.stem for room in (PACKAGE / wing(node.module)).glob("*.py")}
            assert {alias.name for alias in node.names} <= rooms, f"{name} imports a face"


def test_the_wings_are_those_on_the_plan():
    there = {
        path.stem for path in PACKAGE.iterdir() if path.stem not in ("__init__", "__pycache__")
    }
    assert there == set(BELOW)
    for name, below in BELOW.items():  # no circle: each may be imported by those above only
        assert all(name not in BELOW[one] for one in below)


def test_chapters_import_no_publisher():
    import nbformat

    for path in sorted((PACKAGE.parent / "book").glob("*.ipynb")):
        if path.stem == "claims":  # prints the ledger
            continue
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        wings = {wing(found) for found in imported_modules(text) - {"dmf_utils"}}
        assert wings.isdisjoint({"publishing", "teaching", "cli", "_support"}), path.name
