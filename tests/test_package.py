"""What `dmf_utils` exports, and that its import is light."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dmf_utils

HEAVY = ("torch", "scipy", "pandas", "matplotlib", "seaborn", "cvxpy")


def loaded_after(statement):
    """Which heavy packages a new process has loaded."""
    code = f"import sys\n{statement}\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    root = Path(dmf_utils.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", ["dmf_utils", "dmf_utils.claims", "dmf_utils.publishing.cli"])
def test_nothing_heavy_is_loaded_before_it_is_used(name):
    assert loaded_after(f"import {name}") == []


def test_a_name_brings_what_it_needs_and_no_figures():
    loaded = loaded_after("from dmf_utils import gradient_flow")
    assert "torch" in loaded
    assert {"matplotlib", "seaborn", "cvxpy", "pandas"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", dmf_utils.__all__)
def test_each_name_is_that_of_its_module(name):
    found = getattr(dmf_utils, name)
    assert found.__name__ == name
    assert found is getattr(import_module(f"dmf_utils.{dmf_utils._MODULES[name]}"), name)
    assert name in dir(dmf_utils)


def test_what_type_checkers_see_is_what_is_there():
    tree = ast.parse(Path(dmf_utils.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("dmf_utils.")
        for node in block.body
        for alias in node.names
    }
    assert seen == dmf_utils._MODULES
    assert sorted(seen) == sorted(dmf_utils.__all__)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'dmf_utils' has no attribute 'gradient_flaw'"):
        dmf_utils.gradient_flaw  # noqa: B018
    with pytest.raises(ImportError, match="gradient_flaw"):
        from dmf_utils import gradient_flaw  # noqa: F401
